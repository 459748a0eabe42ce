# METADATA
# title: Models come with a signed manifest
# description: Every predictor of an InferenceService names deployment, artifact, manifest and bundle by digest, and brings nothing else.
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

needs[workloads.key(s, "alone")] := workloads.says(s, "has more than a model that a manifest names, as a transformer, a container, a probe or an annotation: leave it out") if some s in input.services

met contains workloads.key(s, "manifest") if {
	some s in input.services
	all := predictors(s)
	count(all) == count([true | some p in all; regex.match(`^ai-infra://[a-z0-9-]+(/sha256:[0-9a-f]{64}){3}$`, p.model.storageUri)])
}

# As admission holds it in the cluster: what is not known to be harmless is refused. A probe may run a program, `runtimeVersion`
# replaces the image's digest, and KServe takes a predictor's annotations for its own word, the storage URI included.
fields := {
	"spec": {"canary", "predictor"},
	"predictor": {"automountServiceAccountToken", "labels", "maxReplicas", "minReplicas", "model", "name", "securityContext", "serviceAccountName", "topologySpreadConstraints"},
	"model": {"modelFormat", "name", "protocolVersion", "resources", "runtime", "storageUri"},
}

met contains workloads.key(s, "alone") if {
	some s in input.services
	within(s.spec, "spec")
	all := predictors(s)
	count(all) == count([true | some p in all; within(p, "predictor"); within(p.model, "model")])
}

within(value, kind) if object.keys(value) - fields[kind] == set()

predictors(service) := array.concat([service.spec.predictor], [c.predictor | some c in canaries(service)])

canaries(service) := object.get(service.spec, "canary", [])
