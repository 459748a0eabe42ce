package sentinelnet.promotion.evaluation_thresholds_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.evaluation_thresholds
import rego.v1

verdict_of(change) := r if {
	r := evaluation_thresholds.report with input.evaluation as object.union(fix.evaluation, change)
}

test_good_model_passes if {
	verdict_of({}) == {"rule": "promotion.evaluation-thresholds", "verdict": "pass", "reasons": []}
}

test_low_accuracy_is_denied_with_its_figure if {
	verdict_of({"metrics": {"accuracy": 0.8964}}).reasons == ["accuracy is 89.64 percent, 90.00 are needed"]
}

test_limit_itself_passes if {
	verdict_of({"metrics": {"accuracy": 0.9}}).verdict == "pass"
}

test_accuracy_that_is_no_fraction_is_denied if {
	every accuracy in [null, "0.99", 97, -1] {
		verdict_of({"metrics": {"accuracy": accuracy}}).verdict == "deny"
	}
}

test_weak_classes_are_named if {
	change := {"metrics": {"perClass": {"1": {"recall": 0.5}, "2": {"precision": 1}, "3": null}}}
	verdict_of(change).reasons == ["recall is below 80.00 percent or unknown for: 1, 2, 3"]
}

test_without_classes_every_class_is_weak if {
	r := evaluation_thresholds.report with input.evaluation as {"samples": 360, "metrics": {"accuracy": 1, "perClass": {}}}
	r.reasons == ["recall is below 80.00 percent or unknown for: every class"]
	s := evaluation_thresholds.report with input.evaluation as {"samples": 360, "metrics": {"accuracy": 1, "perClass": [0.9]}}
	s.reasons == ["recall is below 80.00 percent or unknown for: every class"]
}

test_few_samples_are_denied if {
	verdict_of({"samples": 99}).reasons == ["fewer than 100 samples"]
}

test_no_evaluation_is_denied if {
	r := evaluation_thresholds.report with input.evaluation as null
	r == {"rule": "promotion.evaluation-thresholds", "verdict": "deny", "reasons": ["there is no evaluation"]}
}
