package sentinelnet.promotion.safety_flag_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.safety_flag
import rego.v1

test_unflagged_version_passes if {
	r := safety_flag.report with input.flags as [] with input.version as fix.version
	r == {"rule": "promotion.safety-flag", "verdict": "pass", "reasons": []}
}

test_flagged_version_that_may_be_live_is_quarantined if {
	r := safety_flag.report with input.flags as [fix.flag] with input.version as fix.version
	r == {"rule": "promotion.safety-flag", "verdict": "quarantine", "reasons": [fix.flag_text]}
}

test_flagged_version_in_dev_is_denied if {
	r := safety_flag.report with input.flags as [fix.flag] with input.version as object.union(fix.version, {"stage": "dev"})
	r == {"rule": "promotion.safety-flag", "verdict": "deny", "reasons": [fix.flag_text]}
}

test_flags_not_looked_up_are_denied if {
	r := safety_flag.report with input.version as fix.version
	r == {"rule": "promotion.safety-flag", "verdict": "deny", "reasons": ["the safety flags were not looked up"]}
}

test_odd_flag_never_passes if {
	r := safety_flag.report with input.flags as [null] with input.version as fix.version
	r.verdict == "quarantine"
}
