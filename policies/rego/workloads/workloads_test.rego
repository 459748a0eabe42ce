package sentinelnet.workloads_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.workloads
import rego.v1

given(list, items) := object.union(fix.cluster, {list: items})

whole_with(c) if {
	workloads.whole with input.environment as c.environment with input.layer as c.layer with input.pods as c.pods
		with input.policies as c.policies
		with input.services as c.services
		with input.pools as c.pools
		with input.releases as c.releases
}

test_facts_are_whole_when_each_thing_has_an_id_of_its_own if {
	whole_with(fix.cluster)
	whole_with(given("pods", []))
	every list in ["pods", "policies", "services", "pools", "releases"] {
		not whole_with(given(list, null))
		not whole_with(given(list, array.concat(fix.cluster[list], [fix.cluster[list][0]])))
		not whole_with(given(list, [{"id": ""}]))
		not whole_with(given(list, ["x"]))
	}
}

test_facts_are_whole_when_each_thing_has_all_of_its_lists if {
	every patch in [{"kind": null}, {"part": null}, {"namespace": null}, {"spec": {"containers": []}}, {"spec": {"containers": "c"}}] {
		not whole_with(given("pods", fix.changed("pods", "Deployment/ai-infra/api", patch)))
	}
	every list in ["initContainers", "volumes", "tolerations"] {
		not whole_with(given("pods", fix.respec("Deployment/ai-infra/api", {list: null})))
	}
	every patch in [{"taints": null}, {"capacity": null}, {"instanceTypes": null}] {
		not whole_with(given("pools", fix.changed("pools", "NodeGroup/gpu", patch)))
	}
	not whole_with(given("releases", fix.changed("releases", "Release/karpenter", {"tolerations": null})))
}

test_facts_are_of_a_known_environment_and_layer if {
	not whole_with(object.union(fix.cluster, {"environment": "moon"}))
	not whole_with(object.union(fix.cluster, {"layer": "attic"}))
}

test_facts_that_are_not_whole_are_denied if {
	workloads.report("x", {"n": "wrong"}, {"n"}) == {"rule": "x", "verdict": "deny", "reasons": ["the facts about the cluster are not complete"]}
}

test_toleration_is_of_a_taint_as_the_scheduler_decides if {
	taint := {"key": "a", "value": "b", "effect": "NoSchedule"}
	every t in [{"operator": "Exists"}, {"key": "a", "operator": "Exists"}, {"key": "a", "value": "b"}, {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}] {
		workloads.tolerates([t], taint)
	}
	every t in [{"key": "b", "operator": "Exists"}, {"key": "a"}, {"key": "a", "value": "c"}, {"key": "a", "operator": "Exists", "effect": "NoExecute"}, {"value": "b"}, {"key": "a", "operator": "Is", "value": "b"}] {
		not workloads.tolerates([t], taint)
	}
	workloads.tolerates([{"key": "a"}], {"key": "a", "effect": "NoSchedule"})
}
