# METADATA
# title: The evaluation is recent
# description: Not older than data.limits.evaluation_max_age_s, and not from the future.
# custom:
#   owner: evaluator
#   runbook: runbooks/evaluation.md
#   severity: deny
#   reads: [evaluation.issuedAt, now]
#   limits: [limits.clock_skew_s, limits.evaluation_max_age_s]
package sentinelnet.promotion.evaluation_fresh

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.evaluation-fresh", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.unevaluated("promotion.evaluation-fresh") if not lib.evaluated

report := lib.report("promotion.evaluation-fresh", needs, met) if lib.evaluated

needs := {
	"age": sprintf("the evaluation is older than %d s", [data.limits.evaluation_max_age_s]),
	"known": "the age of the evaluation is unknown",
	"past": "the evaluation is from the future",
}

age := input.now - input.evaluation.issuedAt

met contains "age" if lib.at_least(data.limits.evaluation_max_age_s, age)

met contains "known" if is_number(age)

met contains "past" if lib.happened(input.evaluation.issuedAt)
