package sentinelnet.serving.manifest_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.serving.manifest
import rego.v1

report_of(change) := r if {
	r := manifest.report with input.manifest as object.union(fix.manifest, change)
		with input.version as fix.version
		with input.environment as "prod"
}

test_signed_manifest_passes if {
	report_of({}) == {"rule": "serving.manifest", "verdict": "pass", "reasons": []}
}

test_no_manifest_is_denied if {
	r := manifest.report with input.manifest as null with input.version as fix.version
	r == {"rule": "serving.manifest", "verdict": "deny", "reasons": ["there is no manifest"]}
}

test_each_break_is_named if {
	every change, reason in {
		{"artifactId": fix.digest.e}: "the manifest is of another artifact",
		{"digest": null}: "the manifest has no digest",
		{"environment": "staging"}: "the manifest is for the environment staging",
		{"role": "builder"}: "the manifest is not signed by the trusted manifest key",
		{"signer": null}: "the manifest is not signed by the trusted manifest key",
	} {
		report_of(change) == {"rule": "serving.manifest", "verdict": "deny", "reasons": [reason]}
	}
}
