package sentinelnet.infra.images_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.images
import rego.v1

reported(pods, releases) := r if {
	r := images.report with input.environment as "prod" with input.layer as "platform" with input.pods as pods
		with input.policies as fix.cluster.policies
		with input.services as fix.cluster.services
		with input.pools as fix.cluster.pools
		with input.releases as releases
}

api := "Deployment/ai-infra/api"

operator := "Release/gpu-operator"

test_pinned_images_and_charts_pass if {
	reported(fix.cluster.pods, fix.cluster.releases) == {"rule": "infra.images", "verdict": "pass", "reasons": []}
}

test_image_without_a_digest_is_denied if {
	text := "Deployment/ai-infra/api runs an image without a digest: pin it as NAME@sha256:..."
	every image in ["registry.example/ai-infra:1.2.3", "registry.example/ai-infra", "registry.example/ai-infra@sha256:12", "", null] {
		reported(fix.recontained(api, {"image": image}), []).reasons == [text]
	}
	initial := [object.union(fix.pod(api).spec.initContainers[0], {"image": "busybox"})]
	reported(fix.respec(api, {"initContainers": initial}), []).reasons == [text]
}

test_chart_without_an_exact_version_is_denied if {
	every version in ["", ">=1.0.0", "1.2", "latest", null] {
		r := reported([], fix.changed("releases", operator, {"version": version}))
		r.reasons == ["Release/gpu-operator takes whatever version its chart has: pin one, as 1.2.3"]
	}
}

test_chart_over_plain_http_or_from_a_folder_is_denied if {
	every repository in ["http://helm.example/nvidia", "", null] {
		r := reported([], fix.changed("releases", operator, {"repository": repository}))
		r.reasons == ["Release/gpu-operator has no repository, or one that is not over TLS: name its https:// or oci:// URL"]
	}
}
