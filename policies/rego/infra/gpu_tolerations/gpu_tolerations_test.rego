package sentinelnet.infra.gpu_tolerations_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.gpu_tolerations
import rego.v1

reported(pods, pools, releases) := r if {
	r := gpu_tolerations.report with input.environment as "prod" with input.layer as "platform" with input.pods as pods
		with input.policies as fix.cluster.policies
		with input.services as fix.cluster.services
		with input.pools as pools
		with input.releases as releases
}

gpu := {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

# The charts' own defaults: GPU nodes have another value.
present := {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}

tolerating(items) := fix.changed("releases", "Release/gpu-operator", {"tolerations": [
	{"path": "daemonsets.tolerations", "items": items},
	{"path": "node-feature-discovery.worker.tolerations", "items": items},
]})

text(pool, path) := concat("", [pool, " has a taint that ", path, " of the chart gpu-operator does not tolerate: its nodes would have no GPU to offer"])

both(pool) := [text(pool, "daemonsets.tolerations"), text(pool, "node-feature-discovery.worker.tolerations")]

test_tolerated_taints_pass if {
	reported(fix.cluster.pods, fix.cluster.pools, fix.cluster.releases) == {"rule": "infra.gpu-tolerations", "verdict": "pass", "reasons": []}
	reported([], [], []).verdict == "pass"
	reported([], fix.cluster.pools, tolerating([{"operator": "Exists"}])).verdict == "pass"
	taint := {"key": "nvidia.com/gpu", "value": "true", "effect": "PreferNoSchedule"}
	reported([], fix.changed("pools", "NodePool/gpu-spot", {"taints": [taint]}), tolerating([gpu])).verdict == "pass"
}

test_taint_that_a_daemon_does_not_tolerate_is_denied if {
	reported([], fix.cluster.pools, tolerating([gpu])).reasons == both("NodePool/gpu-spot")
	reported([], fix.cluster.pools, tolerating([present])).reasons == array.concat(both("NodeGroup/gpu"), both("NodePool/gpu-spot"))
	reported([], fix.cluster.pools, []).reasons == array.concat(both("NodeGroup/gpu"), both("NodePool/gpu-spot"))
	once := object.union(gpu, {"effect": "NoExecute"})
	reported([], fix.cluster.pools, tolerating([once])).verdict == "deny"
}

test_pool_whose_types_are_no_texts_could_have_gpus if {
	reported([], [{"id": "p", "capacity": ["spot"], "instanceTypes": [7], "taints": [{"key": "k", "effect": "NoSchedule"}]}], tolerating([gpu])).reasons == both("p")
}

test_pod_with_gpus_that_fits_no_pool_is_denied if {
	id := "RayJob/training-prod/run-1/workers"
	r := reported(fix.respec(id, {"tolerations": []}), fix.cluster.pools, fix.cluster.releases)
	r.reasons == [concat(" ", [id, "asks for GPUs, and tolerates all taints of no GPU pool: it would wait for ever"])]
	reported(fix.respec(id, {"tolerations": [gpu]}), fix.cluster.pools, fix.cluster.releases).verdict == "pass"
	reported(fix.respec(id, {"tolerations": [object.union(gpu, {"operator": "Equal", "value": "true"})]}), fix.cluster.pools, fix.cluster.releases).verdict == "pass"
}

test_layers_without_charts_are_asked_for_their_pods_alone if {
	r := gpu_tolerations.report with input.environment as "prod" with input.layer as "apps" with input.pods as fix.cluster.pods
		with input.policies as []
		with input.services as []
		with input.pools as fix.cluster.pools
		with input.releases as []
	r.verdict == "pass"
}
