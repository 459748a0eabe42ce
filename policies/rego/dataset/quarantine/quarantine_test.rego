package sentinelnet.dataset.quarantine_test

import data.sentinelnet.dataset.quarantine
import data.sentinelnet.fixtures_test as fix
import rego.v1

test_unflagged_data_passes if {
	r := quarantine.report with input.flags as []
	r == {"rule": "dataset.quarantine", "verdict": "pass", "reasons": []}
}

test_flag_is_denied if {
	r := quarantine.report with input.flags as [fix.flag]
	r == {"rule": "dataset.quarantine", "verdict": "deny", "reasons": [fix.flag_text]}
}

test_flags_not_looked_up_are_denied if {
	r := quarantine.report with input.action as "train"
	r.reasons == ["the safety flags were not looked up"]
	s := quarantine.report with input.flags as "none"
	s.reasons == ["the safety flags were not looked up"]
}
