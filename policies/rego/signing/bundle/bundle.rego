# METADATA
# title: Policies are published by security
# description: A person with the role security signed this bundle's digest, with a version above the active one.
# custom:
#   owner: security
#   runbook: runbooks/policy-publish.md
#   severity: deny
#   reads: [active, bundle.recomputed, now, signature, statement]
#   limits: [limits.clock_skew_s]
package sentinelnet.signing.bundle

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "signing.bundle", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("signing.bundle", needs, met)

needs := {
	"future": "the statement was issued in the future",
	"revision": "the statement is of another bundle",
	"signer": "the bundle is not signed by a person with the role security",
	"version": "the version is not above the active bundle's",
}

met contains "future" if lib.happened(input.statement.issuedAt)

met contains "revision" if {
	lib.is_digest(input.bundle.recomputed)
	input.bundle.recomputed == input.statement.revision
}

met contains "signer" if {
	"security" in input.signature.roles
	lib.same(input.signature.person, input.signature.person)
	lib.same(input.signature.signer, input.signature.signer)
}

# active is null for the first bundle only.
met contains "version" if {
	input.active == null
	lib.at_least(input.statement.version, 1)
}

met contains "version" if {
	is_number(input.active.version)
	lib.at_least(input.statement.version, input.active.version + 1)
}
