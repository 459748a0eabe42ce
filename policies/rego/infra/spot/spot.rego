# METADATA
# title: Only workers are on spot nodes
# description: Every pool that may be spot has the spot taint. Workers of Ray jobs may tolerate it, and what runs on each node; heads, controllers and servers may not.
# custom:
#   owner: platform
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: [limits.gpu_daemons, limits.node_daemons, limits.spot_taint]
package sentinelnet.infra.spot

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.spot", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.spot", needs, met)

taint := data.limits.spot_taint

needs[workloads.key(p, "taint")] := workloads.says(p, "may be spot and has no taint ai-infra/spot=true:NoSchedule: anything could be put there") if some p in input.pools

needs[workloads.key(p, "stays")] := workloads.says(p, "tolerates spot nodes, which go away within minutes: leave it to workers of Ray jobs") if {
	some p in input.pods
	p.part != "worker"
	p.kind != "DaemonSet"
}

needs[workloads.key(r, t.path)] := workloads.says(r, concat("", ["has ", t.path, " that let a controller go to spot nodes: tolerate that taint in what runs on each node only"])) if {
	some r in input.releases
	some t in r.tolerations
	not everywhere(r, t)
}

met contains workloads.key(p, "taint") if {
	some p in input.pools
	taint in p.taints
}

met contains workloads.key(p, "taint") if {
	some p in input.pools
	p.capacity == ["on-demand"]
}

met contains workloads.key(p, "stays") if {
	some p in input.pods
	stays(workloads.tolerations(p))
}

met contains workloads.key(r, t.path) if {
	some r in input.releases
	some t in r.tolerations
	stays(t.items)
}

# Each toleration is proven to be of something else.
stays(tolerations) if count(tolerations) == count([true | some t in tolerations; other(t)])

other(toleration) if {
	workloads.is_given(toleration.key)
	toleration.key != taint.key
}

everywhere(release, list) if {
	some d in array.concat(data.limits.gpu_daemons, data.limits.node_daemons)
	d.chart == release.chart
	d.path == list.path
}
