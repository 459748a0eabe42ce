# METADATA
# title: A cluster that passes
# description: Parts of inputs for the tests of the rules about what runs in a cluster; a small prod.
# custom:
#   owner: platform
#   runbook: runbooks/policy-decision.md
package sentinelnet.cluster_fixtures_test

import rego.v1

# tests/policy keeps the same cluster as JSON, for both engines.
cluster := {
	"environment": "prod",
	"layer": "platform",
	"pods": [
		{"id": "Deployment/ai-infra/api", "kind": "Deployment", "part": "", "namespace": "ai-infra", "spec": {"serviceAccountName": "api", "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "api", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}, "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}, "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}}}], "initContainers": [{"name": "migrate", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}}], "volumes": [{"name": "scratch", "emptyDir": {}}]}},
		{"id": "RayJob/training-prod/run-1/submitter", "kind": "RayJob", "part": "submitter", "namespace": "training-prod", "spec": {"serviceAccountName": "training", "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "submitter", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}}], "tolerations": []}},
		{"id": "RayJob/training-prod/run-1/head", "kind": "RayJob", "part": "head", "namespace": "training-prod", "spec": {"serviceAccountName": "training", "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "ray-head", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}}], "tolerations": []}},
		{"id": "RayJob/training-prod/run-1/workers", "kind": "RayJob", "part": "worker", "namespace": "training-prod", "spec": {"serviceAccountName": "training", "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "ray-worker", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}}], "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, {"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"}]}},
		{"id": "ServingRuntime/models-prod/ai-infra", "kind": "ServingRuntime", "part": "", "namespace": "models-prod", "spec": {"containers": [{"name": "kserve-container", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}, "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}}}], "volumes": [{"name": "scratch", "emptyDir": {}}]}},
		{"id": "InferenceService/models-prod/digits/predictor", "kind": "InferenceService", "part": "predictor", "namespace": "models-prod", "spec": {"containers": [{"name": "kserve-container", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}, "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}}}], "volumes": [{"name": "scratch", "emptyDir": {}}], "serviceAccountName": "predictor"}},
		{"id": "ClusterStorageContainer/ai-infra", "kind": "ClusterStorageContainer", "part": "", "namespace": "", "spec": {"containers": [{"name": "storage-initializer", "image": "registry.example/ai-infra@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}, "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}}]}},
	],
	"policies": [
		{"id": "NetworkPolicy/ai-infra/default-deny", "namespace": "ai-infra", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
		{"id": "NetworkPolicy/models-prod/default-deny", "namespace": "models-prod", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
		{"id": "NetworkPolicy/training-prod/default-deny", "namespace": "training-prod", "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
		{"id": "NetworkPolicy/ai-infra/api", "namespace": "ai-infra", "spec": {"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "proxy"}}}], "ports": [{"port": 8443}]}]}},
	],
	"services": [
		{"id": "InferenceService/models-prod/digits", "namespace": "models-prod", "spec": {"predictor": {"serviceAccountName": "predictor", "model": {"modelFormat": {"name": "ai-infra"}, "runtime": "ai-infra", "storageUri": "ai-infra://dep-1/sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}}, "canary": [{"predictor": {"serviceAccountName": "predictor", "model": {"modelFormat": {"name": "ai-infra"}, "runtime": "ai-infra", "storageUri": "ai-infra://dep-1/sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}, "name": "v2"}, "trafficPercent": 10}]}},
	],
	"pools": [
		{"id": "NodeGroup/core", "capacity": ["on-demand"], "instanceTypes": ["m7i.xlarge"], "taints": []},
		{"id": "NodeGroup/gpu", "capacity": ["on-demand"], "instanceTypes": ["g5.2xlarge"], "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]},
		{"id": "NodePool/gpu-spot", "capacity": ["spot"], "instanceTypes": ["g5.2xlarge", "g6.2xlarge"], "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}, {"key": "ai-infra/spot", "value": "true", "effect": "NoSchedule"}]},
	],
	"releases": [
		{"id": "Release/gpu-operator", "chart": "gpu-operator", "version": "v25.3.4", "repository": "https://helm.example/nvidia", "tolerations": [{"path": "daemonsets.tolerations", "items": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, {"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"}]}, {"path": "node-feature-discovery.worker.tolerations", "items": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, {"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"}]}, {"path": "operator.tolerations", "items": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]}]},
		{"id": "Release/karpenter", "chart": "oci://registry.example/karpenter/karpenter", "version": "1.6.3", "repository": "", "tolerations": []},
	],
}

# The items of a list with other values: those whose id this is.
changed(list, id, patch) := [object.union(item, object.get({id: patch}, item.id, {})) | some item in cluster[list]]

without(list, id) := [item | some item in cluster[list]; item.id != id]

pod(id) := p if {
	some p in cluster.pods
	p.id == id
}

# The pods, with other values in the spec of one.
respec(id, patch) := changed("pods", id, {"spec": patch})

# The pods, with another first container in one.
recontained(id, patch) := respec(id, {"containers": [object.union(pod(id).spec.containers[0], patch)]})
