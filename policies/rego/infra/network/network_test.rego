package sentinelnet.infra.network_test

import data.sentinelnet.infra.network
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources) := r if {
	r := network.report with input.environment as "prod" with input.layer as "ground" with input.resources as resources with input.statements as []
}

test_closed_network_passes if {
	reported(fix.resources) == {"rule": "infra.network", "verdict": "pass", "reasons": []}
}

test_network_without_flow_logs_is_denied if {
	reported(fix.without("aws_flow_log")).reasons == ["aws_vpc.main keeps no flow logs"]
	reported(fix.changed("aws_flow_log", {"traffic_type": "REJECT"})).reasons == ["aws_vpc.main keeps no flow logs"]
	reported(fix.without("aws_vpc")).reasons == ["the ground has no network"]
}

test_ingress_from_everywhere_is_denied if {
	every rule in [{"cidr_blocks": ["10.0.0.0/16", "0.0.0.0/0"]}, {"ipv6_cidr_blocks": ["::/0"]}, {"cidr_blocks": ["0.0.0.0/1"]}] {
		reported(fix.changed("aws_security_group", {"ingress": [rule]})).reasons == ["aws_security_group.db lets everybody in: name the sources"]
	}
	reported(fix.changed("aws_security_group", {"ingress": [{"cidr_blocks": true}]})).verdict == "deny"
	every source in [{"cidr_ipv4": "0.0.0.0/0"}, {"cidr_ipv6": "::/0"}] {
		reported(fix.changed("aws_vpc_security_group_ingress_rule", source)).reasons == ["aws_vpc_security_group_ingress_rule.db lets everybody in: name the source"]
	}
	reported(fix.changed("aws_security_group_rule", {"type": "ingress"})).reasons == ["aws_security_group_rule.all_out lets everybody in: name the source"]
}

test_public_addresses_are_denied if {
	reported(fix.changed("aws_db_instance", {"publicly_accessible": true})).reasons == ["aws_db_instance.main has a public address: unset publicly_accessible"]
	reported(fix.changed("aws_subnet", {"map_public_ip_on_launch": true})).reasons == ["aws_subnet.a gives public addresses to what starts in it: unset map_public_ip_on_launch"]
	reported(fix.changed("aws_launch_template", {"network_interfaces": [{"associate_public_ip_address": "true"}]})).reasons == ["aws_launch_template.gpu starts nodes with public addresses"]
}
