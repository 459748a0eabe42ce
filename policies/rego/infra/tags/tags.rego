# METADATA
# title: Tags are complete
# description: Everything that takes tags says who pays for it and whose it is; the environment's tag is the environment.
# custom:
#   owner: platform
#   runbook: runbooks/infra-tags.md
#   severity: deny
#   reads: [environment, layer, resources, statements]
#   limits: [limits.required_tags]
package sentinelnet.infra.tags

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.tags", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.each("infra.tags", cloud.resources, good, bad)

good := [true | some r in cloud.resources; tagged(r)]

bad := [cloud.says(r, concat("", ["lacks a tag, or has a wrong one: ", concat(", ", missing(r))])) |
	some r in cloud.resources
	not tagged(r)
]

# Without the field the type takes no tags.
tagged(r) if not has_tags(r)

tagged(r) if {
	has_tags(r)
	missing(r) == []
}

has_tags(r) if object.get(r, "tags", "none") != "none"

missing(r) := [name | some name in data.limits.required_tags; not right(name, r)]

right(name, r) if {
	name != "environment"
	cloud.is_given(r.tags[name])
}

right("environment", r) if r.tags.environment == input.environment
