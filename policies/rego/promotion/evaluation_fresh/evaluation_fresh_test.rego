package sentinelnet.promotion.evaluation_fresh_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.evaluation_fresh
import rego.v1

test_recent_evaluation_passes if {
	r := evaluation_fresh.report with input.now as fix.now with input.evaluation as fix.evaluation
	r == {"rule": "promotion.evaluation-fresh", "verdict": "pass", "reasons": []}
}

test_old_evaluation_is_denied if {
	r := evaluation_fresh.report with input.now as fix.now
		with input.evaluation as fix.evaluation
		with data.limits.evaluation_max_age_s as 999
	r == {"rule": "promotion.evaluation-fresh", "verdict": "deny", "reasons": ["the evaluation is older than 999 s"]}
}

test_limit_itself_passes if {
	r := evaluation_fresh.report with input.now as fix.now
		with input.evaluation as fix.evaluation
		with data.limits.evaluation_max_age_s as 1000
	r.verdict == "pass"
}

test_evaluation_from_the_future_is_denied if {
	r := evaluation_fresh.report with input.now as 998000 with input.evaluation as fix.evaluation
	r == {"rule": "promotion.evaluation-fresh", "verdict": "deny", "reasons": ["the evaluation is from the future"]}
}

test_unknown_age_is_denied if {
	every issued in [null, "999000", {}] {
		r := evaluation_fresh.report with input.now as fix.now
			with input.evaluation as object.union(fix.evaluation, {"issuedAt": issued})
		r.verdict == "deny"
		"the age of the evaluation is unknown" in r.reasons
	}
}

test_no_evaluation_is_denied_for_that_alone if {
	r := evaluation_fresh.report with input.now as fix.now with input.evaluation as null
	r == {"rule": "promotion.evaluation-fresh", "verdict": "deny", "reasons": ["there is no evaluation"]}
}
