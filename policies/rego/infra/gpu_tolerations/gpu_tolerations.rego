# METADATA
# title: GPU nodes get what makes them usable
# description: Driver, device plugin, DCGM and feature discovery tolerate every taint of every GPU pool; a pod that asks for GPUs tolerates all of some pool's.
# custom:
#   owner: platform
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: [limits.gpu_daemons]
package sentinelnet.infra.gpu_tolerations

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.gpu-tolerations", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.gpu-tolerations", needs, met)

needs[workloads.key(p, d.path)] := workloads.says(p, concat("", ["has a taint that ", d.path, " of the chart ", d.chart, " does not tolerate: its nodes would have no GPU to offer"])) if {
	some p in workloads.gpu_pools
	some d in daemons
}

needs[workloads.key(p, "pool")] := workloads.says(p, "asks for GPUs, and tolerates all taints of no GPU pool: it would wait for ever") if {
	some p in input.pods
	asks_gpu(p)
}

met contains workloads.key(p, d.path) if {
	some p in workloads.gpu_pools
	some d in daemons
	some r in input.releases
	r.chart == d.chart
	some found in r.tolerations
	found.path == d.path
	tolerated(found.items, p)
}

met contains workloads.key(pod, "pool") if {
	some pod in input.pods
	some p in workloads.gpu_pools
	tolerated(workloads.tolerations(pod), p)
}

# The charts are the platform's; the other layers only have pods.
default daemons := []

daemons := data.limits.gpu_daemons if input.layer == "platform"

tolerated(tolerations, pool) if {
	bound := [t | some t in pool.taints; workloads.binding(t)]
	count(bound) == count([t | some t in bound; workloads.tolerates(tolerations, t)])
}

asks_gpu(pod) if {
	some c in workloads.containers(pod)
	some list in ["limits", "requests"]
	object.get(c, ["resources", list, "nvidia.com/gpu"], "none") != "none"
}
