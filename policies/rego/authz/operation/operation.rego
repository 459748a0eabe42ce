# METADATA
# title: Who may do what
# description: data.authz says which roles a person needs, and what each service may do. What is not listed is refused.
# custom:
#   owner: admin
#   runbook: runbooks/access-refused.md
#   severity: deny
#   reads: [actor, operation, roles]
#   limits: [authz.operations, authz.people, authz.service_operations]
package sentinelnet.authz.operation

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "authz.operation", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("authz.operation", {"allowed": wrong}, met)

# With the way out: which role it takes, and which there are.
wrong := concat("", [who, ": ", takes, "; ", has])

who := sprintf("%s may not %s", [
	lib.text(object.get(input, ["actor"], "")),
	lib.text(object.get(input, ["operation"], "")),
])

default takes := "no role may"

takes := concat("", ["that takes the role ", concat(" or ", sort(data.authz.operations[input.operation]))])

default has := "the actor has none"

has := concat("", ["the actor has ", concat(", ", sort(input.roles))]) if count(input.roles) > 0

# A person acts by a role.
met contains "allowed" if {
	startswith(input.actor, data.authz.people)
	some role in input.roles
	role in data.authz.operations[input.operation]
}

# A service acts by its name; roles count for nothing.
met contains "allowed" if input.operation in data.authz.service_operations[input.actor]
