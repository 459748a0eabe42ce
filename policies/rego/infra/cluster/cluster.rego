# METADATA
# title: The cluster is closed
# description: The API endpoint is private, all logs are kept, secrets are encrypted with our key, nodes want IMDSv2, and GPU nodes are tainted.
# custom:
#   owner: platform
#   runbook: runbooks/infra-cluster.md
#   severity: deny
#   reads: [environment, layer, resources, statements]
#   limits: [limits.cluster_logs]
package sentinelnet.infra.cluster

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.cluster", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.cluster", needs, met)

clusters := cloud.of("aws_eks_cluster")

groups := cloud.of("aws_eks_node_group")

gpu_groups := [g |
	some g in groups
	count(g.instance_types) != count([true | some type in g.instance_types; regex.match(`^(g|p|trn|inf)[0-9]`, type) == false])
]

hosts := array.concat(cloud.of("aws_launch_template"), cloud.of("aws_instance"))

wants := {
	"private": "has a public API endpoint, or no private one: set endpoint_private_access alone",
	"logs": "does not keep all of its logs: enable every type",
	"secrets": "does not encrypt secrets with a key of ours: set encryption_config",
	"access": "takes the aws-auth map for who is who: set authentication_mode to API",
}

needs[cloud.key(c, want)] := cloud.says(c, text) if {
	some c in clusters
	some want, text in wants
}

needs["present"] := "the ground has no cluster" if cloud.ground

needs[cloud.key(h, "imds")] := cloud.says(h, "answers IMDSv1, or more than one hop away: http_tokens required, hop limit 1") if some h in hosts

needs[cloud.key(g, "template")] := cloud.says(g, "has no launch template, and with it no IMDSv2 and no encrypted disks") if some g in groups

needs[cloud.key(g, "taint")] := cloud.says(g, "has GPUs and no taint nvidia.com/gpu: other pods would take them") if some g in gpu_groups

met contains "present" if count(clusters) > 0

met contains cloud.key(c, "private") if {
	some c in clusters
	c.vpc_config[0].endpoint_private_access == true
	c.vpc_config[0].endpoint_public_access == false
}

met contains cloud.key(c, "logs") if {
	some c in clusters
	logs := data.limits.cluster_logs
	count([log | some log in logs; log in c.enabled_cluster_log_types]) == count(logs)
}

met contains cloud.key(c, "secrets") if {
	some c in clusters
	c.encryption_config[0].resources == ["secrets"]
	cloud.is_given(c.encryption_config[0].provider[0].key_arn)
}

met contains cloud.key(c, "access") if {
	some c in clusters
	c.access_config[0].authentication_mode == "API"
}

met contains cloud.key(h, "imds") if {
	some h in hosts
	h.metadata_options[0].http_tokens == "required"
	h.metadata_options[0].http_put_response_hop_limit == 1
}

met contains cloud.key(g, "template") if {
	some g in groups
	count(g.launch_template) == 1
}

met contains cloud.key(g, "taint") if {
	some g in gpu_groups
	some taint in g.taint
	taint.key == "nvidia.com/gpu"
	taint.effect == "NO_SCHEDULE"
}
