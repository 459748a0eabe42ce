# METADATA
# title: What the infra rules share
# description: Resources by type, joins between them, written exceptions, and reports that need facts that are complete.
# custom:
#   owner: platform
#   runbook: runbooks/policy-decision.md
package sentinelnet.cloud

import data.sentinelnet.lib
import rego.v1

resources := [r | some group in input.resources; some r in group]

# A resource that is no object, or has the address of another one, could hide behind what the others prove.
default whole := false

whole if {
	input.environment in data.limits.environments
	input.layer in data.limits.layers
	count(resources) > 0
	count(resources) == count({r.address | some r in resources; is_given(r.address)})
	count(input.resources) == count([group | some group in input.resources; is_array(group)])
	is_array(input.statements)
	count(input.statements) == count([s | some s in input.statements; sound(s)])
}

sound(statement) if {
	is_string(statement.id)
	is_string(statement.governs)
	statement.effect in ["Allow", "Deny"]
	statement.kind in ["identity", "resource", "trust"]
	lists := [statement.actions, statement.notActions, statement.resources, statement.notResources, statement.principals, statement.holders]
	count([list | some list in lists; is_array(list)]) == 6
}

# needs: name -> what is wrong without it. An environment that has nothing for a rule to look at passes; a rule that wants
# something to be there says so with a need.
report(rule, needs, met) := {"rule": rule, "verdict": "pass", "reasons": []} if {
	whole
	object.keys(needs) - met == set()
} else := lib.refused(rule, "deny", [needs[name] | some name in unmet]) if {
	whole
	unmet := object.keys(needs) - met
	count(unmet) > 0
} else := lib.refused(rule, "deny", ["the facts about the environment are not complete"])

# The same for a long list, in time that grows with its length: see lib.each.
each(rule, items, good, bad) := {"rule": rule, "verdict": "pass", "reasons": []} if {
	whole
	count(good) == count(items)
} else := lib.refused(rule, "deny", bad) if {
	whole
	count(bad) > 0
	count(good) + count(bad) == count(items)
} else := lib.refused(rule, "deny", ["the facts about the environment are not complete"])

# A store's bucket: the account is in it, for all the world's buckets share one space of names.
store_name(store) := concat("-", ["ai-infra", input.environment, input.account, store])

default of(_) := []

of(type) := found if {
	found := input.resources[type]
	is_array(found)
}

# The one resource of a type that configures another one; a second would take turns with it.
only(type, target) := found[0] if {
	found := [r | some r in of(type); r.target == target.address]
	count(found) == 1
}

key(resource, want) := concat(" ", [lib.text(resource.address), want])

says(resource, text) := concat(" ", [lib.text(resource.address), text])

# What an optional attribute of a resource refers to, or its literal; an empty text is none.
is_given(value) if {
	is_string(value)
	value != ""
}

ground if input.layer == "ground"

prod if input.environment == "prod"

# True for a written exception of this rule for exactly this thing.
excepted(rule, thing) if {
	some e in input.exceptions
	e.rule == rule
	e.resource == thing
	valid(e)
}

valid(exception) if {
	is_given(exception.reason)
	is_given(exception.approvedBy)
	exception.rule in data.limits.exception_rules
	lib.at_least(exception.expires, input.now)
	lib.at_least(input.now + data.limits.exception_max_s, exception.expires)
}
