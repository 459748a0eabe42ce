package sentinelnet.promotion.signature_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.signature
import rego.v1

test_builder_signature_passes if {
	r := signature.report with input.artifact as fix.artifact
	r == {"rule": "promotion.signature", "verdict": "pass", "reasons": []}
}

test_unsigned_artifact_is_denied if {
	r := signature.report with input.artifact as {"id": fix.artifact_id, "recomputed": fix.artifact_id, "signature": null}
	r.verdict == "deny"
	r.reasons == ["the artifact has no verified signature of a trusted builder", "the signature names no subject digest"]
}

test_other_signer_is_denied if {
	every change in [{"role": "manifest"}, {"role": null}, {"signer": ""}] {
		r := signature.report with input.artifact as object.union(fix.artifact, {"signature": change})
		r.reasons == ["the artifact has no verified signature of a trusted builder"]
	}
}
