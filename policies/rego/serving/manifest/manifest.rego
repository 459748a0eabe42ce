# METADATA
# title: Only manifested models are served
# description: A signed manifest binds this artifact to this environment.
# custom:
#   owner: deployer
#   runbook: runbooks/deploy-refused.md
#   severity: deny
#   reads: [environment, manifest, version.artifactId]
#   limits: []
package sentinelnet.serving.manifest

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "serving.manifest", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.refused("serving.manifest", "deny", ["there is no manifest"]) if not present

report := lib.report("serving.manifest", needs, met) if present

present if is_object(input.manifest)

needs := {
	"artifact": "the manifest is of another artifact",
	"digest": "the manifest has no digest",
	"environment": sprintf("the manifest is for the environment %s", [lib.text(object.get(input, ["manifest", "environment"], ""))]),
	"signer": "the manifest is not signed by the trusted manifest key",
}

met contains "artifact" if {
	lib.is_digest(input.manifest.artifactId)
	input.manifest.artifactId == input.version.artifactId
}

met contains "digest" if lib.is_digest(input.manifest.digest)

met contains "environment" if lib.same(input.manifest.environment, input.environment)

met contains "signer" if {
	input.manifest.role == "manifest"
	lib.same(input.manifest.signer, input.manifest.signer)
}
