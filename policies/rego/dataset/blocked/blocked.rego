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

# What refuses is looked for only where something does. Before that all data sets are seen at once: the embedded engine takes long
# for each call, also of a built-in. They have digests if nothing but what they have is found to be one.
report := lib.passed("dataset.blocked") if {
	count(lib.datasets) > 0
	count(ids) == count(lib.datasets)
	ids == regex.find_n(`sha256:[0-9a-f]{64}`, concat(",", ids), -1)
	is_array(data.limits.blocked_datasets)
	listed == []
} else := lib.each_refused("dataset.blocked", lib.datasets, good, bad)

ids := [d.id | some d in lib.datasets]

listed := [id |
	some blocked in data.limits.blocked_datasets
	some id in ids
	id == blocked
]

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
