# METADATA
# title: Enough people approved
# description: The risk class and the target stage say how many approvers, distinct by person and by key, without the requester.
# custom:
#   owner: security
#   runbook: runbooks/promotion-request.md
#   severity: deny
#   reads: [approvals, request.requester, request.to, version.riskClass]
#   limits: [limits.approvals]
package sentinelnet.promotion.quorum

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.quorum", "verdict": "deny", "reasons": ["no number of approvals is set for this risk class and stage"]}

report := lib.report("promotion.quorum", needs, met)

# Of the version, not of the request: a request cannot lower its own bar.
quorum := data.limits.approvals[input.version.riskClass][input.request.to]

needs := {"quorum": sprintf("%d of %d approvals by distinct people and keys", [approvals, quorum])}

# Not min(): the embedded engine compares numbers as text there, and takes 10 for less than 2.
approvals := count(people) if {
	count(people) <= count(keys)
} else := count(keys)

met contains "quorum" if {
	is_array(input.approvals)
	lib.at_least(approvals, quorum)
}

people contains a.person if some a in counted

keys contains a.signer if some a in counted

counted := [a |
	some a in object.get(input, "approvals", [])
	"approver" in a.roles
	lib.same(a.person, a.person)
	lib.same(a.signer, a.signer)
	a.person != input.request.requester.person
	a.signer != input.request.requester.signer
]
