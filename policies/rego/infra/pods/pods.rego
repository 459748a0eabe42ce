# METADATA
# title: Pods have no more than they need
# description: Every pod runs as a user, with a read-only root, without privileges, within limits, under an account of its own; what lasts has probes.
# custom:
#   owner: platform
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: [limits.lasting_kinds]
package sentinelnet.infra.pods

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.pods", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.pods", needs, met)

wants := {
	"user": "may run as root: set runAsNonRoot, and no runAsUser of 0",
	"profile": "has no seccomp profile: set RuntimeDefault",
	"host": "shares network, processes or files of its node: leave out hostNetwork, hostPID, hostIPC and hostPath",
	"root": "writes to its root file system: set readOnlyRootFilesystem, and mount an emptyDir where it writes",
	"privileges": "can gain privileges: set allowPrivilegeEscalation to false and drop ALL capabilities",
	"limits": "has no end of what it takes: request cpu and memory, and limit memory, of each container",
}

needs[workloads.key(p, want)] := workloads.says(p, text) if {
	some p in input.pods
	some want, text in wants
}

needs[workloads.key(p, "account")] := workloads.says(p, "runs under the default service account: give it one of its own") if {
	some p in input.pods
	not workloads.template(p)
}

needs[workloads.key(p, "probes")] := workloads.says(p, "lasts without being asked how it is: give each container a readiness and a liveness probe") if some p in lasting

lasting := [p | some p in input.pods; p.kind in data.limits.lasting_kinds]

met contains workloads.key(p, "user") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; setting(p, c, "runAsNonRoot", false) == true; setting(p, c, "runAsUser", 1) != 0])
}

met contains workloads.key(p, "profile") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; setting(p, c, "seccompProfile", {}).type == "RuntimeDefault"])
}

met contains workloads.key(p, "host") if {
	some p in input.pods
	count([true | some name in ["hostIPC", "hostNetwork", "hostPID"]; object.get(p.spec, name, false) == false]) == 3
	volumes := workloads.volumes(p)
	count(volumes) == count([true | some v in volumes; object.get(v, "hostPath", "none") == "none"])
}

met contains workloads.key(p, "root") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; c.securityContext.readOnlyRootFilesystem == true])
}

met contains workloads.key(p, "privileges") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; unprivileged(c.securityContext)])
}

met contains workloads.key(p, "limits") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; limited(c.resources)])
}

met contains workloads.key(p, "account") if {
	some p in input.pods
	workloads.is_given(p.spec.serviceAccountName)
	p.spec.serviceAccountName != "default"
}

met contains workloads.key(p, "probes") if {
	some p in lasting
	count(p.spec.containers) == count([true | some c in p.spec.containers; count(c.readinessProbe) > 0; count(c.livenessProbe) > 0])
}

# A container's own setting comes before its pod's.
setting(pod, container, name, absent) := object.get(container, ["securityContext", name], object.get(pod.spec, ["securityContext", name], absent))

unprivileged(context) if {
	context.allowPrivilegeEscalation == false
	context.capabilities.drop == ["ALL"]
	object.get(context, "privileged", false) == false
	object.get(context.capabilities, "add", []) == []
}

limited(resources) if {
	quantity(resources.requests.cpu)
	quantity(resources.requests.memory)
	quantity(resources.limits.memory)
}

quantity(value) if workloads.is_given(value)

quantity(value) if is_number(value)
