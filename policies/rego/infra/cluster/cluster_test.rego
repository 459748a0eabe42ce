package sentinelnet.infra.cluster_test

import data.sentinelnet.infra.cluster
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources) := r if {
	r := cluster.report with input.environment as "prod" with input.layer as "ground" with input.resources as resources with input.statements as []
}

test_closed_cluster_passes if {
	reported(fix.resources) == {"rule": "infra.cluster", "verdict": "pass", "reasons": []}
}

test_ground_without_cluster_is_denied if {
	reported(fix.without("aws_eks_cluster")).reasons == ["the ground has no cluster"]
}

test_open_cluster_is_denied if {
	cases := {
		"has a public API endpoint, or no private one: set endpoint_private_access alone": {"vpc_config": [{"endpoint_private_access": true, "endpoint_public_access": true}]},
		"does not keep all of its logs: enable every type": {"enabled_cluster_log_types": ["api", "audit"]},
		"does not encrypt secrets with a key of ours: set encryption_config": {"encryption_config": []},
		"takes the aws-auth map for who is who: set authentication_mode to API": {"access_config": [{"authentication_mode": "API_AND_CONFIG_MAP"}]},
	}
	every text, patch in cases {
		reported(fix.changed("aws_eks_cluster", patch)).reasons == [concat(" ", ["aws_eks_cluster.main", text])]
	}
}

test_imds_of_version_one_is_denied if {
	text := "aws_launch_template.gpu answers IMDSv1, or more than one hop away: http_tokens required, hop limit 1"
	reported(fix.changed("aws_launch_template", {"metadata_options": []})).reasons == [text]
	reported(fix.changed("aws_launch_template", {"metadata_options": [{"http_tokens": "optional", "http_put_response_hop_limit": 1}]})).reasons == [text]
	reported(fix.changed("aws_launch_template", {"metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 2}]})).reasons == [text]
	reported(fix.added("aws_instance", {"address": "aws_instance.jump"})).verdict == "deny"
}

test_nodes_without_launch_template_are_denied if {
	reported(fix.changed("aws_eks_node_group", {"launch_template": []})).reasons == ["aws_eks_node_group.gpu has no launch template, and with it no IMDSv2 and no encrypted disks"]
}

test_gpu_nodes_without_taint_are_denied if {
	text := "aws_eks_node_group.gpu has GPUs and no taint nvidia.com/gpu: other pods would take them"
	reported(fix.changed("aws_eks_node_group", {"taint": []})).reasons == [text]
	reported(fix.changed("aws_eks_node_group", {"taint": [{"key": "nvidia.com/gpu", "effect": "PREFER_NO_SCHEDULE"}]})).reasons == [text]
	reported(fix.changed("aws_eks_node_group", {"taint": [], "instance_types": ["m6i.large"]})).verdict == "pass"
}
