# METADATA
# title: Data sets are used as their licence allows
# description: The SPDX licence of every data set is on the list of the purpose. Without a purpose the strictest list counts.
# custom:
#   owner: steward
#   runbook: runbooks/data-use.md
#   severity: deny
#   reads: [datasets, job.purpose, provenance.purpose]
#   limits: [limits.licences]
package sentinelnet.dataset.licence

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "dataset.licence", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

# What refuses is looked for only where something does.
report := lib.passed("dataset.licence") if {
	count(lib.datasets) > 0
	every d in lib.datasets {
		allowed(d)
	}
} else := lib.each_refused("dataset.licence", lib.datasets, good, bad)

purpose := input.job.purpose if {
	is_string(input.job.purpose)
} else := input.provenance.purpose if {
	is_string(input.provenance.purpose)
} else := "commercial"

good := [true | some d in lib.datasets; allowed(d)]

bad := [concat(" ", ["data set", lib.text(object.get(d, "id", "")), "has the licence", licence, "which is not on the list for", purpose, "use"]) |
	some d in lib.datasets
	is_object(d)
	not allowed(d)
	licence := concat("", [lib.text(object.get(d, "licence", "")), ","])
]

allowed(d) if listed[d.licence]

listed := {licence | some licence in data.limits.licences[purpose]}
