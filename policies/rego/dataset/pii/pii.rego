# METADATA
# title: Personal data needs a steward
# description: A data set that holds personal data, or may hold it, needs a steward's approval bound to its digest.
# custom:
#   owner: steward
#   runbook: runbooks/data-use.md
#   severity: deny
#   reads: [datasets]
#   limits: []
package sentinelnet.dataset.pii

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "dataset.pii", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

# What refuses is looked for only where something does.
report := lib.passed("dataset.pii") if {
	count(lib.datasets) > 0
	every d in lib.datasets {
		allowed(d)
	}
} else := lib.each_refused("dataset.pii", lib.datasets, good, bad)

good := [true | some d in lib.datasets; allowed(d)]

bad := [sprintf("data set %s: personal data is %s and no steward approved it", [lib.text(object.get(d, "id", "")), lib.text(object.get(d, "pii", ""))]) |
	some d in lib.datasets
	is_object(d)
	not allowed(d)
]

allowed(d) if {
	d.pii == "none"
} else if {
	# approvedBy names the stewards whose signature over this very digest was verified.
	d.pii in ["present", "unknown"]
	some person in d.approvedBy
	lib.same(person, person)
}
