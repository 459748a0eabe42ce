# METADATA
# title: Nothing is reachable from outside
# description: No ingress from everywhere, no public addresses on nodes, databases or subnets, and every network keeps flow logs.
# custom:
#   owner: platform
#   runbook: runbooks/infra-network.md
#   severity: deny
#   reads: [environment, layer, resources, statements]
#   limits: []
package sentinelnet.infra.network

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.network", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.network", needs, met)

networks := cloud.of("aws_vpc")

groups := array.concat(cloud.of("aws_security_group"), cloud.of("aws_default_security_group"))

rules := array.concat(
	cloud.of("aws_vpc_security_group_ingress_rule"),
	[r | some r in cloud.of("aws_security_group_rule"); object.get(r, "type", "ingress") != "egress"],
)

databases := array.concat(cloud.of("aws_db_instance"), cloud.of("aws_rds_cluster_instance"))

subnets := cloud.of("aws_subnet")

templates := cloud.of("aws_launch_template")

needs["present"] := "the ground has no network" if cloud.ground

needs[cloud.key(n, "flow")] := cloud.says(n, "keeps no flow logs") if some n in networks

needs[cloud.key(g, "group")] := cloud.says(g, "lets everybody in: name the sources") if some g in groups

needs[cloud.key(r, "rule")] := cloud.says(r, "lets everybody in: name the source") if some r in rules

needs[cloud.key(d, "database")] := cloud.says(d, "has a public address: unset publicly_accessible") if some d in databases

needs[cloud.key(s, "subnet")] := cloud.says(s, "gives public addresses to what starts in it: unset map_public_ip_on_launch") if some s in subnets

needs[cloud.key(t, "template")] := cloud.says(t, "starts nodes with public addresses") if some t in templates

met contains "present" if count(networks) > 0

met contains cloud.key(n, "flow") if {
	some n in networks
	cloud.only("aws_flow_log", n).traffic_type == "ALL"
}

met contains cloud.key(g, "group") if {
	some g in groups
	ingress := object.get(g, "ingress", [])
	count(ingress) == count([true | some rule in ingress; closed(rule)])
}

met contains cloud.key(r, "rule") if {
	some r in rules
	closed(r)
}

met contains cloud.key(d, "database") if {
	some d in databases
	object.get(d, "publicly_accessible", false) == false
}

met contains cloud.key(s, "subnet") if {
	some s in subnets
	object.get(s, "map_public_ip_on_launch", false) == false
}

met contains cloud.key(t, "template") if {
	some t in templates
	count([i | some i in object.get(t, "network_interfaces", []); object.get(i, "associate_public_ip_address", "false") != "false"]) == 0
}

closed(rule) if count(sources(rule)) == count([source | some source in sources(rule); narrow(source)])

sources(rule) := array.concat(
	array.concat(object.get(rule, "cidr_blocks", []), object.get(rule, "ipv6_cidr_blocks", [])),
	[object.get(rule, "cidr_ipv4", ""), object.get(rule, "cidr_ipv6", "")],
)

narrow(source) if regex.match(`/[0-7]$`, source) == false
