# METADATA
# title: What the rules about the cluster share
# description: Containers of pods, which taints are tolerated, and reports that need facts that are complete.
# custom:
#   owner: platform
#   runbook: runbooks/policy-decision.md
package sentinelnet.workloads

import data.sentinelnet.lib
import rego.v1

# What is no object, or has the id of another one, could hide behind what the others prove.
default whole := false

whole if {
	input.environment in data.limits.environments
	input.layer in data.limits.layers
	every_has_id(input.pods)
	every_has_id(input.policies)
	every_has_id(input.services)
	every_has_id(input.pools)
	every_has_id(input.releases)
	count(input.pods) == count([p | some p in input.pods; sound(p)])
	count(input.pools) == count([p | some p in input.pools; is_array(p.taints); is_array(p.capacity); is_array(p.instanceTypes)])
	count(input.releases) == count([r | some r in input.releases; is_array(r.tolerations)])
}

every_has_id(items) if {
	is_array(items)
	count(items) == count({item.id | some item in items; is_given(item.id)})
}

sound(pod) if {
	is_string(pod.kind)
	is_string(pod.part)
	is_string(pod.namespace)
	count(pod.spec.containers) > 0
	lists := [pod.spec.containers, initial(pod), volumes(pod), tolerations(pod)]
	count([list | some list in lists; is_array(list)]) == 4
}

# needs: name -> what is wrong without it. A layer that has nothing for a rule to look at passes.
report(rule, needs, met) := {"rule": rule, "verdict": "pass", "reasons": []} if {
	whole
	object.keys(needs) - met == set()
} else := lib.refused(rule, "deny", [needs[name] | some name in unmet]) if {
	whole
	unmet := object.keys(needs) - met
	count(unmet) > 0
} else := lib.refused(rule, "deny", ["the facts about the cluster are not complete"])

key(item, want) := concat(" ", [lib.text(item.id), want])

says(item, text) := concat(" ", [lib.text(item.id), text])

is_given(value) if {
	is_string(value)
	value != ""
}

initial(pod) := object.get(pod.spec, "initContainers", [])

volumes(pod) := object.get(pod.spec, "volumes", [])

tolerations(pod) := object.get(pod.spec, "tolerations", [])

containers(pod) := array.concat(initial(pod), pod.spec.containers)

# A runtime, or a container that KServe puts into pods of others: it has no account and no namespace of its own.
template(pod) if pod.kind in ["ClusterStorageContainer", "ServingRuntime"]

# As the scheduler decides (Kubernetes, "Taints and Tolerations"): an empty key tolerates every key, an empty effect every effect.
tolerates(tolerations, taint) if {
	some t in tolerations
	object.get(t, "key", "") in ["", taint.key]
	object.get(t, "effect", "") in ["", taint.effect]
	same_value(t, taint)
}

same_value(toleration, _) if object.get(toleration, "operator", "Equal") == "Exists"

same_value(toleration, taint) if {
	object.get(toleration, "operator", "Equal") == "Equal"
	object.get(toleration, "key", "") == taint.key
	object.get(toleration, "value", "") == object.get(taint, "value", "")
}

binding(taint) if taint.effect in ["NoExecute", "NoSchedule"]

# An instance type that is no text could be one with GPUs.
gpu(pool) if count(pool.instanceTypes) != count([true | some type in pool.instanceTypes; regex.match(`^(g|p|trn|inf)[0-9]`, type) == false])

gpu_pools := [p | some p in input.pools; gpu(p)]
