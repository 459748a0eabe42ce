# METADATA
# title: Decision
# description: The one entry point. The set of reports of the rules that data.actions names for the action.
# custom:
#   owner: security
#   runbook: runbooks/policy-decision.md
package sentinelnet

import rego.v1

wanted := object.get(data.actions, input.action, [])

# An area is evaluated only when the action needs it: authorisation is asked for every write and must stay cheap.
# Written out one by one because data.sentinelnet[_] would be a recursion into this very rule.
areas := {split(rule, ".")[0] | some rule in wanted}

# METADATA
# entrypoint: true
decision contains report if {
	"authz" in areas
	some name
	report := data.sentinelnet.authz[name].report
	report.rule in wanted
}

decision contains report if {
	"dataset" in areas
	some name
	report := data.sentinelnet.dataset[name].report
	report.rule in wanted
}

decision contains report if {
	"promotion" in areas
	some name
	report := data.sentinelnet.promotion[name].report
	report.rule in wanted
}

decision contains report if {
	"serving" in areas
	some name
	report := data.sentinelnet.serving[name].report
	report.rule in wanted
}

decision contains report if {
	"signing" in areas
	some name
	report := data.sentinelnet.signing[name].report
	report.rule in wanted
}

decision contains report if {
	"training" in areas
	some name
	report := data.sentinelnet.training[name].report
	report.rule in wanted
}
