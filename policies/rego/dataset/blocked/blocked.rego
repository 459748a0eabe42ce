# METADATA
# title: Blocked data sets are not used
# description: No data set is on the list data.limits.blocked_datasets.
# custom:
#   owner: steward
#   runbook: runbooks/data-use.md
package sentinelnet.dataset.blocked

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "dataset.blocked", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.each("dataset.blocked", lib.datasets, good, texts)

good contains i if {
	some i, d in lib.datasets
	lib.is_digest(d.id)
	every blocked in data.limits.blocked_datasets {
		blocked != d.id
	}
}

texts := [sprintf("data set %s is blocked, or its bytes have another digest", [lib.text(object.get(d, "id", ""))]) |
	some d in lib.datasets
	is_object(d)
]
