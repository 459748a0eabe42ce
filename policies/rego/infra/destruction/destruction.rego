# METADATA
# title: State is not destroyed by a change
# description: A change that deletes or replaces what holds state, or is protected, is written down first, with who approved it and until when.
# custom:
#   owner: platform
#   runbook: runbooks/infra-destruction.md
#   severity: deny
#   reads: [changes, environment, exceptions, layer, now, resources, statements]
#   limits: [limits.stateful_types]
package sentinelnet.infra.destruction

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.destruction", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.destruction", needs, met)

needs["changes"] := "the changes could not be read"

needs[address] := concat(" ", [address, "holds state or is protected, and would be destroyed: keep it, or write an exception in stacks/exceptions.yaml"]) if {
	some address in wrong
}

# The things that need an exception; infra.exceptions compares them with those that have one.
wrong contains change.address if {
	some change in input.changes
	is_string(change.address)
	destroys(change)
	precious(change)
}

met contains "changes" if is_null(input.changes)

met contains "changes" if {
	is_array(input.changes)
	count(input.changes) == count([c | some c in input.changes; sound(c)])
}

met contains address if {
	some address in wrong
	cloud.excepted("infra.destruction", address)
}

sound(change) if {
	is_string(change.address)
	is_string(change.type)
	is_boolean(change.protect)
	count(change.actions) == count([a | some a in change.actions; a in ["create", "delete", "forget", "no-op", "read", "update"]])
	count(change.actions) > 0
}

destroys(change) if "delete" in change.actions

destroys(change) if "forget" in change.actions

precious(change) if change.protect == true

precious(change) if change.type in data.limits.stateful_types
