# METADATA
# title: The bytes are the requested ones
# description: The digest recomputed from the stored bytes is the artifact's id, the version's and the request's.
# custom:
#   owner: security
#   runbook: runbooks/artifact-integrity.md
#   severity: deny
#   reads: [artifact.id, artifact.recomputed, request.artifactId, version.artifactId]
#   limits: []
package sentinelnet.promotion.artifact_digest

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.artifact-digest", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("promotion.artifact-digest", needs, met)

recomputed := object.get(input, ["artifact", "recomputed"], "")

needs := {
	"artifact": sprintf("the stored bytes have the digest %s, the artifact's id is %s", [lib.text(recomputed), lib.text(object.get(input, ["artifact", "id"], ""))]),
	"request": "the request names another artifact than the stored bytes",
	"version": "the version has another artifact than the stored bytes",
}

met contains "artifact" if {
	lib.is_digest(recomputed)
	recomputed == input.artifact.id
}

met contains "request" if {
	lib.is_digest(recomputed)
	recomputed == input.request.artifactId
}

met contains "version" if {
	lib.is_digest(recomputed)
	recomputed == input.version.artifactId
}
