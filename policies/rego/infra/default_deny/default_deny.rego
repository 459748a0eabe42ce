# METADATA
# title: Pods are closed to each other
# description: In every namespace with a pod a NetworkPolicy selects all pods, and lets nothing in or out; others open it, each rule to those that it names.
# custom:
#   owner: platform
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: [limits.private_blocks]
package sentinelnet.infra.default_deny

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.default-deny", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.default-deny", needs, met)

needs[workloads.key(p, "closed")] := workloads.says(p, "is in a namespace without a default-deny NetworkPolicy: add one for Ingress and Egress, with an empty selector") if {
	some p in input.pods
	not workloads.template(p)
}

needs[workloads.key(n, "named")] := workloads.says(n, "opens to everybody: name namespaces, pods or address blocks in each rule, and of the world no private block and not every port") if some n in input.policies

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

# Policies add up: one that is open to everybody makes nothing of the one that closes.
met contains workloads.key(n, "named") if {
	some n in input.policies
	rules := array.concat(
		[{"peers": rule.from, "ports": ports(rule)} | some rule in object.get(n.spec, "ingress", [])],
		[{"peers": rule.to, "ports": ports(rule)} | some rule in object.get(n.spec, "egress", [])],
	)
	count(rules) == count(object.get(n.spec, "ingress", [])) + count(object.get(n.spec, "egress", []))
	count(rules) == count([true | some rule in rules; named(rule)])
}

ports(rule) := object.get(rule, "ports", [])

named(rule) if {
	count(rule.peers) > 0
	count(rule.peers) == count([true | some peer in rule.peers; known(peer, rule.ports)])
}

# Without a namespace's selector, pods of the policy's own namespace.
known(peer, _) if object.keys(peer) == {"podSelector"}

known(peer, _) if {
	object.keys(peer) - {"podSelector"} == {"namespaceSelector"}
	count(object.get(peer.namespaceSelector, "matchLabels", {})) + count(object.get(peer.namespaceSelector, "matchExpressions", [])) > 0
}

known(peer, _) if {
	object.keys(peer) == {"ipBlock"}
	regex.match(`/[0-7]$`, peer.ipBlock.cidr) == false
}

known(peer, ports) if {
	object.keys(peer) == {"ipBlock"}
	count(ports) > 0
	count([true | some block in data.limits.private_blocks; block in peer.ipBlock.except]) == count(data.limits.private_blocks)
}
