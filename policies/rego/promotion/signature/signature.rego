# METADATA
# title: Artifacts are signed
# description: The model signature over the artifact's files was made by a trusted builder.
# custom:
#   owner: security
#   runbook: runbooks/artifact-integrity.md
#   severity: deny
#   reads: [artifact.signature]
#   limits: []
package sentinelnet.promotion.signature

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.signature", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("promotion.signature", needs, met)

needs := {
	"signer": "the artifact has no verified signature of a trusted builder",
	"subject": "the signature names no subject digest",
}

met contains "signer" if {
	input.artifact.signature.role == "builder"
	lib.same(input.artifact.signature.signer, input.artifact.signature.signer)
}

met contains "subject" if lib.is_digest(input.artifact.signature.subject)
