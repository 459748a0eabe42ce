# METADATA
# title: A quarantine is lifted by security
# description: A person with the role security signed a clearance of this very flag, after the flag was set.
# custom:
#   owner: security
#   runbook: runbooks/quarantine.md
#   severity: deny
#   reads: [clearance, flag, now]
#   limits: [limits.clock_skew_s]
package sentinelnet.serving.clearance

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "serving.clearance", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("serving.clearance", needs, met)

needs := {
	"flag": "the clearance is of another flag",
	"reason": "the clearance gives no reason",
	"signer": "the clearance is not signed by a person with the role security",
	"time": "the clearance is older than the flag, or from the future",
}

met contains "flag" if {
	lib.same(input.clearance.flag, input.flag.id)
	lib.same(input.clearance.kind, input.flag.kind)
	lib.same(input.clearance.target, input.flag.target)
}

met contains "reason" if lib.same(input.clearance.reason, input.clearance.reason)

met contains "signer" if {
	"security" in input.clearance.roles
	lib.same(input.clearance.person, input.clearance.person)
	lib.same(input.clearance.signer, input.clearance.signer)
}

met contains "time" if {
	lib.at_least(input.clearance.issuedAt, input.flag.since)
	lib.happened(input.clearance.issuedAt)
}
