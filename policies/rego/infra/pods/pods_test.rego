package sentinelnet.infra.pods_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.pods
import rego.v1

reported(items) := r if {
	r := pods.report with input.environment as "prod" with input.layer as "platform" with input.pods as items
		with input.policies as fix.cluster.policies
		with input.services as fix.cluster.services
		with input.pools as fix.cluster.pools
		with input.releases as fix.cluster.releases
}

api := "Deployment/ai-infra/api"

denied(items, id, text) if reported(items).reasons == [concat(" ", [id, text])]

test_closed_pods_pass if {
	reported(fix.cluster.pods) == {"rule": "infra.pods", "verdict": "pass", "reasons": []}
	reported([]).verdict == "pass"
}

test_pod_that_may_be_root_is_denied if {
	text := "may run as root: set runAsNonRoot, and no runAsUser of 0"
	every patch in [{"runAsNonRoot": false}, {"runAsUser": 0}] {
		denied(fix.respec(api, {"securityContext": patch}), api, text)
		denied(fix.recontained(api, {"securityContext": patch}), api, text)
	}
	denied(fix.recontained("ClusterStorageContainer/ai-infra", {"securityContext": {"runAsNonRoot": false}}), "ClusterStorageContainer/ai-infra", text)
}

test_pod_without_a_seccomp_profile_is_denied if {
	text := "has no seccomp profile: set RuntimeDefault"
	denied(fix.respec(api, {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}), api, text)
	denied(fix.recontained(api, {"securityContext": {"seccompProfile": "RuntimeDefault"}}), api, text)
}

test_pod_that_shares_its_node_is_denied if {
	text := "shares network, processes or files of its node: leave out hostNetwork, hostPID, hostIPC and hostPath"
	every patch in [{"hostNetwork": true}, {"hostPID": true}, {"hostIPC": true}, {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}] {
		denied(fix.respec(api, patch), api, text)
	}
}

test_container_that_writes_its_root_is_denied if {
	text := "writes to its root file system: set readOnlyRootFilesystem, and mount an emptyDir where it writes"
	denied(fix.recontained(api, {"securityContext": {"readOnlyRootFilesystem": false}}), api, text)
	denied(fix.respec(api, {"initContainers": [object.union(fix.pod(api).spec.initContainers[0], {"securityContext": {"readOnlyRootFilesystem": "yes"}})]}), api, text)
}

test_container_with_privileges_is_denied if {
	text := "can gain privileges: set allowPrivilegeEscalation to false and drop ALL capabilities"
	patches := [{"allowPrivilegeEscalation": true}, {"privileged": true}, {"capabilities": {"drop": []}}, {"capabilities": {"add": ["SYS_ADMIN"]}}]
	every patch in patches {
		denied(fix.recontained(api, {"securityContext": patch}), api, text)
	}
}

test_container_without_an_end_of_what_it_takes_is_denied if {
	text := "has no end of what it takes: request cpu and memory, and limit memory, of each container"
	every patch in [{"requests": {"cpu": ""}}, {"requests": {"memory": null}}, {"limits": {"memory": {}}}] {
		denied(fix.recontained(api, {"resources": patch}), api, text)
	}
	reported(fix.recontained(api, {"resources": {"requests": {"cpu": 2}}})).verdict == "pass"
}

test_default_service_account_is_denied if {
	text := "runs under the default service account: give it one of its own"
	every account in ["default", "", null] {
		denied(fix.respec(api, {"serviceAccountName": account}), api, text)
	}
}

test_what_lasts_without_probes_is_denied if {
	text := "lasts without being asked how it is: give each container a readiness and a liveness probe"
	every probe in ["livenessProbe", "readinessProbe"] {
		denied(fix.recontained(api, {probe: null}), api, text)
	}
	runtime := "ServingRuntime/models-prod/ai-infra"
	denied(fix.recontained(runtime, {"livenessProbe": null}), runtime, text)
}
