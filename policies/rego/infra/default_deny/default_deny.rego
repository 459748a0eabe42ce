# METADATA
# title: Pods are closed to each other
# description: In every namespace with a pod a NetworkPolicy selects all pods, and lets nothing in or out; others open what has to be open.
# custom:
#   owner: platform
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: []
package sentinelnet.infra.default_deny

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.default-deny", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.default-deny", needs, met)

needs[workloads.key(p, "closed")] := workloads.says(p, "is in a namespace without a default-deny NetworkPolicy: add one for Ingress and Egress, with an empty selector") if {
	some p in input.pods
	not workloads.template(p)
}

met contains workloads.key(p, "closed") if {
	some p in input.pods
	p.namespace in closed
}

closed := {n.namespace |
	some n in input.policies
	workloads.is_given(n.namespace)
	n.spec.podSelector == {}
	count([true | some way in ["Egress", "Ingress"]; way in n.spec.policyTypes]) == 2
	object.get(n.spec, "ingress", []) == []
	object.get(n.spec, "egress", []) == []
}
