package sentinelnet_test

import data.sentinelnet
import rego.v1

test_every_action_gets_exactly_its_reports if {
	every action, rules in data.actions {
		reports := sentinelnet.decision with input.action as action
		{report.rule | some report in reports} == {rule | some rule in rules}
		count(reports) == count(rules)
	}
}

test_empty_input_is_denied_by_every_rule if {
	every action, _ in data.actions {
		reports := sentinelnet.decision with input.action as action
		every report in reports {
			report.verdict == "deny"
			count(report.reasons) > 0
		}
	}
}

test_unknown_action_gets_no_report if {
	count(sentinelnet.decision) == 0 with input.action as "dance"
	count(sentinelnet.decision) == 0 with input.action as null
}

# What a built-in that the engine lacks looks like: no error, no value.
nothing(_, _, _) := value if some value in []

nothing_of_four(_, _, _, _) := value if some value in []

test_rule_that_cannot_be_evaluated_denies if {
	every action, rules in data.actions {
		reports := sentinelnet.decision with input.action as action
			with input.evaluation as {}
			with input.manifest as {}
			with data.sentinelnet.lib.report as nothing
			with data.sentinelnet.cloud.report as nothing
			with data.sentinelnet.cloud.each as nothing_of_four
			with data.sentinelnet.workloads.report as nothing
		count(reports) == count(rules)
		every report in reports {
			report.verdict == "deny"
		}
	}
}
