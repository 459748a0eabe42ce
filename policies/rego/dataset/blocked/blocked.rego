# METADATA
# title: Blocked data sets are not used
# description: No data set is on the list data.limits.blocked_datasets.
# custom:
#   owner: steward
#   runbook: runbooks/data-use.md
#   severity: deny
#   reads: [datasets]
#   limits: [limits.blocked_datasets]
package sentinelnet.dataset.blocked

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "dataset.blocked", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

# What refuses is looked for only where something does.
report := lib.passed("dataset.blocked") if {
	count(lib.datasets) > 0
	every d in lib.datasets {
		allowed(d)
	}
} else := lib.each_refused("dataset.blocked", lib.datasets, good, bad)

good := [true | some d in lib.datasets; allowed(d)]

bad := [sprintf("data set %s is blocked, or its bytes have another digest", [lib.text(object.get(d, "id", ""))]) |
	some d in lib.datasets
	is_object(d)
	not allowed(d)
]

allowed(d) if {
	lib.is_digest(d.id)
	every blocked in data.limits.blocked_datasets {
		blocked != d.id
	}
}
