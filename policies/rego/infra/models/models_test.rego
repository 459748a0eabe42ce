package sentinelnet.infra.models_test

import data.sentinelnet.cluster_fixtures_test as fix
import data.sentinelnet.infra.models
import rego.v1

reported(services) := r if {
	r := models.report with input.environment as "prod" with input.layer as "platform" with input.pods as fix.cluster.pods
		with input.policies as fix.cluster.policies
		with input.services as services
		with input.pools as fix.cluster.pools
		with input.releases as fix.cluster.releases
}

digits := "InferenceService/models-prod/digits"

spec := fix.cluster.services[0].spec

respec(patch) := fix.changed("services", digits, {"spec": patch})

canary(patch) := {"canary": [{"predictor": object.union(spec.canary[0].predictor, patch)}]}

test_models_with_a_manifest_pass if {
	reported(fix.cluster.services) == {"rule": "infra.models", "verdict": "pass", "reasons": []}
	reported([]).verdict == "pass"
}

test_model_without_a_manifest_is_denied if {
	text := "InferenceService/models-prod/digits serves what no signed manifest names: let model.storageUri be ai-infra://DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE, as `ai-infra deploy` writes it"
	every uri in ["s3://models/digits", "ai-infra://dep-1/sha256:aa", "", null] {
		reported(respec({"predictor": {"model": {"storageUri": uri}}})).reasons == [text]
		reported(respec(canary({"model": {"storageUri": uri}}))).reasons == [text]
	}
}

test_model_with_another_source_is_denied if {
	text := "InferenceService/models-prod/digits has more than a model that a manifest names, as a transformer, a container, a probe or an annotation: leave it out"
	patches := [{"transformer": {}}, {"explainer": {}}, {"predictor": {"containers": []}}, {"predictor": {"model": {"image": "x"}}}, {"predictor": {"model": {"livenessProbe": {}}}}, {"predictor": {"annotations": {}}}, {"worker": {}}, canary({"containers": []}), canary({"model": {"runtimeVersion": "0"}})]
	every patch in patches {
		reported(respec(patch)).reasons == [text]
	}
}
