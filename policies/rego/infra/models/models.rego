# METADATA
# title: Models come with a signed manifest
# description: Every predictor of an InferenceService names deployment, artifact, manifest and bundle by digest, and has no other source.
# custom:
#   owner: security
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: []
package sentinelnet.infra.models

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.models", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.models", needs, met)

needs[workloads.key(s, "manifest")] := workloads.says(s, "serves what no signed manifest names: let model.storageUri be ai-infra://DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE, as `ai-infra deploy` writes it") if some s in input.services

needs[workloads.key(s, "alone")] := workloads.says(s, "has a transformer, an explainer or a container of its own, which no manifest names: leave it out") if some s in input.services

met contains workloads.key(s, "manifest") if {
	some s in input.services
	all := predictors(s)
	count(all) == count([true | some p in all; regex.match(`^ai-infra://[a-z0-9-]+(/sha256:[0-9a-f]{64}){3}$`, p.model.storageUri)])
}

met contains workloads.key(s, "alone") if {
	some s in input.services
	count([true | some name in ["explainer", "transformer"]; object.get(s.spec, name, "none") == "none"]) == 2
	all := predictors(s)
	count(all) == count([true | some p in all; object.get(p, "containers", "none") == "none"; object.get(p, ["model", "image"], "none") == "none"])
}

predictors(service) := array.concat([service.spec.predictor], [c.predictor | some c in canaries(service)])

canaries(service) := object.get(service.spec, "canary", [])
