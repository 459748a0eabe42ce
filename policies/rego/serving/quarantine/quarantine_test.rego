package sentinelnet.serving.quarantine_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.serving.quarantine
import rego.v1

test_unflagged_version_is_served if {
	r := quarantine.report with input.flags as []
	r == {"rule": "serving.quarantine", "verdict": "pass", "reasons": []}
}

test_flagged_version_is_quarantined if {
	r := quarantine.report with input.flags as [fix.flag]
	r == {"rule": "serving.quarantine", "verdict": "quarantine", "reasons": [fix.flag_text]}
}

test_flags_not_looked_up_are_denied if {
	every unknown in [null, {}, "[]"] {
		r := quarantine.report with input.flags as unknown
		r == {"rule": "serving.quarantine", "verdict": "deny", "reasons": ["the safety flags were not looked up"]}
	}
}
