package sentinelnet.infra.default_deny_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.default_deny
import rego.v1

reported(pods, policies) := r if {
	r := default_deny.report with input.environment as "prod" with input.layer as "platform" with input.pods as pods
		with input.policies as policies
		with input.services as fix.cluster.services
		with input.pools as fix.cluster.pools
		with input.releases as fix.cluster.releases
}

closed := "NetworkPolicy/ai-infra/default-deny"

text := "Deployment/ai-infra/api is in a namespace without a default-deny NetworkPolicy: add one for Ingress and Egress, with an empty selector"

test_pods_in_closed_namespaces_pass if {
	reported(fix.cluster.pods, fix.cluster.policies) == {"rule": "infra.default-deny", "verdict": "pass", "reasons": []}
	reported([], []).verdict == "pass"
}

test_namespace_without_a_policy_is_denied if {
	reported(fix.cluster.pods, fix.without("policies", closed)).reasons == [text]
}

test_policy_that_leaves_something_open_is_denied if {
	patches := [
		{"podSelector": {"matchLabels": {"app": "api"}}},
		{"policyTypes": ["Ingress"]},
		{"ingress": [{}]},
		{"egress": [{"ports": [{"port": 443}]}]},
	]
	every patch in patches {
		text in reported(fix.cluster.pods, fix.changed("policies", closed, {"spec": patch})).reasons
	}
}

world := data.limits.private_blocks

opened(patch) := reported([], fix.changed("policies", "NetworkPolicy/ai-infra/api", {"spec": patch}))

test_policy_that_names_its_peers_passes if {
	patches := [
		{"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}, "podSelector": {}}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/18"}}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": world}}], "ports": [{"port": 443}]}]},
	]
	every patch in patches {
		opened(patch).verdict == "pass"
	}
}

test_policy_that_is_open_to_everybody_is_denied if {
	patches := [
		{"ingress": [{}]},
		{"ingress": [{"from": []}]},
		{"ingress": [{"from": [{}]}]},
		{"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {}}]}]},
		{"egress": [{"ports": [{"port": 443}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}], "ports": [{"port": 443}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/1"}}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": world}}]}]},
		{"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}]},
	]
	every patch in patches {
		opened(patch).reasons == ["NetworkPolicy/ai-infra/api opens to everybody: name namespaces, pods or address blocks in each rule, and of the world no private block and not every port"]
	}
}

test_pod_without_a_namespace_is_denied if {
	api := fix.changed("pods", "Deployment/ai-infra/api", {"namespace": ""})
	reported(api, fix.changed("policies", closed, {"namespace": ""})).reasons == [text]
}
