# METADATA
# title: The model was evaluated
# description: A trusted evaluator signed an evaluation of this artifact, on a held-out split of its own data, named by the request.
# custom:
#   owner: evaluator
#   runbook: runbooks/evaluation.md
#   severity: deny
#   reads: [datasets, evaluation, request.evaluation, version.artifactId]
#   limits: [limits.evaluation_splits]
package sentinelnet.promotion.evaluation_present

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.evaluation-present", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.unevaluated("promotion.evaluation-present") if not lib.evaluated

report := lib.report("promotion.evaluation-present", needs, met) if lib.evaluated

needs := {
	"artifact": "the evaluation is of another artifact",
	"dataset": "the evaluation is on a data set that the version does not descend from",
	"request": "the request names another evaluation",
	"signer": "the evaluation is not signed by a trusted evaluator",
	"split": sprintf("the split %s is not a held-out one", [lib.text(object.get(input, ["evaluation", "split"], ""))]),
}

met contains "artifact" if {
	lib.is_digest(input.evaluation.artifactId)
	input.evaluation.artifactId == input.version.artifactId
}

# A trainer may register any data set, also an easy one.
met contains "dataset" if {
	lib.is_digest(input.evaluation.dataset)
	input.evaluation.dataset in [d.id | some d in lib.datasets]
}

met contains "request" if {
	lib.is_digest(input.evaluation.digest)
	input.evaluation.digest == input.request.evaluation
}

met contains "signer" if {
	input.evaluation.role == "evaluator"
	lib.same(input.evaluation.signer, input.evaluation.signer)
}

met contains "split" if input.evaluation.split in data.limits.evaluation_splits
