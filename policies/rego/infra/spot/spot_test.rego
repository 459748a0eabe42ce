package sentinelnet.infra.spot_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.spot
import rego.v1

reported(pods, pools, releases) := r if {
	r := spot.report with input.environment as "prod" with input.layer as "platform" with input.pods as pods
		with input.policies as fix.cluster.policies
		with input.services as fix.cluster.services
		with input.pools as pools
		with input.releases as releases
}

gpu_taint := {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}

spot_taint := {"key": "ai-infra/spot", "value": "true", "effect": "NoSchedule"}

tolerations := [
	{"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"},
	{"key": "ai-infra/spot", "value": "true"},
	{"operator": "Exists"},
	{"key": "", "operator": "Exists", "effect": "NoExecute"},
]

test_workers_alone_on_spot_pass if {
	reported(fix.cluster.pods, fix.cluster.pools, fix.cluster.releases) == {"rule": "infra.spot", "verdict": "pass", "reasons": []}
}

test_spot_pool_without_its_taint_is_denied if {
	text := "NodePool/gpu-spot may be spot and has no taint ai-infra/spot=true:NoSchedule: anything could be put there"
	every taints in [[], [gpu_taint], [object.union(spot_taint, {"effect": "PreferNoSchedule"})]] {
		reported([], fix.changed("pools", "NodePool/gpu-spot", {"taints": taints}), []).reasons == [text]
	}
	reported([], fix.changed("pools", "NodePool/gpu-spot", {"capacity": ["on-demand", "spot"], "taints": []}), []).reasons == [text]
	reported([], fix.changed("pools", "NodePool/gpu-spot", {"capacity": [], "taints": []}), []).reasons == [text]
}

test_head_or_server_that_tolerates_spot_is_denied if {
	every id in ["Deployment/ai-infra/api", "RayJob/training-prod/run-1/head", "RayJob/training-prod/run-1/submitter"] {
		every t in tolerations {
			r := reported(fix.respec(id, {"tolerations": [t]}), fix.cluster.pools, [])
			r.reasons == [concat(" ", [id, "tolerates spot nodes, which go away within minutes: leave it to workers of Ray jobs"])]
		}
	}
	daemon := fix.changed("pods", "Deployment/ai-infra/api", {"kind": "DaemonSet", "spec": {"tolerations": [{"operator": "Exists"}]}})
	reported(daemon, fix.cluster.pools, []).verdict == "pass"
}

test_chart_whose_controller_tolerates_spot_is_denied if {
	text := "Release/karpenter has controller.tolerations that let a controller go to spot nodes: tolerate that taint in what runs on each node only"
	every t in tolerations {
		r := reported([], [], fix.changed("releases", "Release/karpenter", {"tolerations": [{"path": "controller.tolerations", "items": [t]}]}))
		r.reasons == [text]
	}
}
