# METADATA
# title: The model is good enough
# description: Accuracy and the recall of every class reach their limits, on enough samples.
# custom:
#   owner: evaluator
#   runbook: runbooks/evaluation.md
#   severity: deny
#   reads: [evaluation.metrics, evaluation.samples]
#   limits: [limits.evaluation_min_samples, limits.min_accuracy, limits.min_class_recall]
package sentinelnet.promotion.evaluation_thresholds

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.evaluation-thresholds", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.unevaluated("promotion.evaluation-thresholds") if not lib.evaluated

report := lib.report("promotion.evaluation-thresholds", needs, met) if lib.evaluated

accuracy := object.get(input, ["evaluation", "metrics", "accuracy"], null)

classes := object.get(input, ["evaluation", "metrics", "perClass"], null)

needs := {
	"accuracy": sprintf("accuracy is %s percent, %s are needed", [lib.percent(accuracy), lib.percent(data.limits.min_accuracy)]),
	"recall": concat("", ["recall is below ", lib.percent(data.limits.min_class_recall), " percent or unknown for: ", concat(", ", weak)]),
	"samples": sprintf("fewer than %d samples", [data.limits.evaluation_min_samples]),
}

default weak := ["every class"]

weak := sort([name | some name; classes[name]; not name in strong]) if {
	is_object(classes)
	count(classes) > 0
}

strong contains name if {
	some name, metrics in classes
	in_reach(metrics.recall, data.limits.min_class_recall)
}

met contains "accuracy" if in_reach(accuracy, data.limits.min_accuracy)

met contains "recall" if {
	is_object(classes)
	count(classes) > 0
	every name, _ in classes {
		name in strong
	}
}

met contains "samples" if lib.at_least(input.evaluation.samples, data.limits.evaluation_min_samples)

in_reach(fraction, limit) if {
	lib.at_least(fraction, limit)
	lib.at_least(1, fraction)
}
