package sentinelnet.promotion.artifact_digest_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.artifact_digest
import rego.v1

test_same_digest_everywhere_passes if {
	r := artifact_digest.report with input.artifact as fix.artifact
		with input.version as fix.version
		with input.request as fix.request
	r == {"rule": "promotion.artifact-digest", "verdict": "pass", "reasons": []}
}

test_tampered_bytes_are_denied if {
	r := artifact_digest.report with input.artifact as object.union(fix.artifact, {"recomputed": fix.digest.e})
		with input.version as fix.version
		with input.request as fix.request
	r.verdict == "deny"
	r.reasons == [
		"the request names another artifact than the stored bytes",
		sprintf("the stored bytes have the digest %s, the artifact's id is %s", [fix.digest.e, fix.digest.a]),
		"the version has another artifact than the stored bytes",
	]
}

test_request_for_another_artifact_is_denied if {
	r := artifact_digest.report with input.artifact as fix.artifact
		with input.version as fix.version
		with input.request as object.union(fix.request, {"artifactId": fix.digest.e})
	r.reasons == ["the request names another artifact than the stored bytes"]
}

test_nothing_equals_nothing_is_denied if {
	r := artifact_digest.report with input.artifact as {"id": null, "recomputed": null}
		with input.version as {"artifactId": null}
		with input.request as {"artifactId": null}
	count(r.reasons) == 3
}
