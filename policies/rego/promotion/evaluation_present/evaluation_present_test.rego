package sentinelnet.promotion.evaluation_present_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.evaluation_present
import rego.v1

test_signed_evaluation_passes if {
	r := evaluation_present.report with input.evaluation as fix.evaluation
		with input.version as fix.version
		with input.request as fix.request
		with input.datasets as [fix.dataset]
	r == {"rule": "promotion.evaluation-present", "verdict": "pass", "reasons": []}
}

test_no_evaluation_is_denied if {
	r := evaluation_present.report with input.evaluation as null
	r == {"rule": "promotion.evaluation-present", "verdict": "deny", "reasons": ["there is no evaluation"]}
}

test_each_break_is_named if {
	every change, reason in {
		{"artifactId": fix.digest.e}: "the evaluation is of another artifact",
		{"dataset": fix.digest.e}: "the evaluation is on a data set that the version does not descend from",
		{"dataset": null}: "the evaluation is on a data set that the version does not descend from",
		{"digest": fix.digest.e}: "the request names another evaluation",
		{"role": "builder"}: "the evaluation is not signed by a trusted evaluator",
		{"signer": null}: "the evaluation is not signed by a trusted evaluator",
		{"split": "train"}: "the split train is not a held-out one",
	} {
		r := evaluation_present.report with input.evaluation as object.union(fix.evaluation, change)
			with input.version as fix.version
			with input.request as fix.request
			with input.datasets as [fix.dataset]
		r == {"rule": "promotion.evaluation-present", "verdict": "deny", "reasons": [reason]}
	}
}
