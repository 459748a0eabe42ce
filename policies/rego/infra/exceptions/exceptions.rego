# METADATA
# title: Exceptions are few, explained and needed
# description: Every written exception is for a rule that takes one, has a reason, an approver and a near end, and something still needs it.
# custom:
#   owner: security
#   runbook: runbooks/infra-exceptions.md
#   severity: deny
#   reads: [changes, environment, exceptions, layer, now, resources, statements]
#   limits: []
package sentinelnet.infra.exceptions

import data.sentinelnet.cloud
import data.sentinelnet.infra.destruction
import data.sentinelnet.infra.iam_wildcards
import data.sentinelnet.lib
import rego.v1

default report := {"rule": "infra.exceptions", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.each("infra.exceptions", input.exceptions, good, bad)

good := [true | some e in input.exceptions; fine(e)]

bad := [concat(" ", [lib.text(e.resource), "has an exception from", lib.text(e.rule), why(e)]) |
	some e in input.exceptions
	not fine(e)
]

fine(e) if {
	cloud.valid(e)
	used(e)
}

why(e) := "without a reason or approver, whose end is past or over a year away, or whose rule takes none" if {
	not cloud.valid(e)
} else := "that nothing needs: remove it"

used(e) if {
	e.rule == "infra.iam-wildcards"
	e.resource in iam_wildcards.wrong
}

used(e) if {
	e.rule == "infra.destruction"
	e.resource in destruction.wrong
}

# Without a base there is no change that could need it.
used(e) if {
	e.rule == "infra.destruction"
	is_null(input.changes)
}
