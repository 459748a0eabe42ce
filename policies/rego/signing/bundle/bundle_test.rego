package sentinelnet.signing.bundle_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.signing.bundle
import rego.v1

signature := {"signer": "key-s", "person": "spiffe://ai-infra.local/person/sam", "roles": ["security"]}

statement := {"revision": fix.digest.b, "version": 2, "issuedAt": 999999}

report_of(statement_change, signature_change, active) := r if {
	r := bundle.report with input.now as fix.now
		with input.bundle as {"recomputed": fix.digest.b}
		with input.statement as object.union(statement, statement_change)
		with input.signature as object.union(signature, signature_change)
		with input.active as active
}

active := {"revision": fix.digest.a, "version": 1}

test_signed_bundle_passes if {
	report_of({}, {}, active) == {"rule": "signing.bundle", "verdict": "pass", "reasons": []}
}

test_first_bundle_passes if {
	report_of({"version": 1}, {}, null).verdict == "pass"
	report_of({"version": 0}, {}, null).verdict == "deny"
}

test_older_bundle_is_denied if {
	report_of({"version": 1}, {}, active).reasons == ["the version is not above the active bundle's"]
	report_of({"version": "3"}, {}, active).reasons == ["the version is not above the active bundle's"]
	report_of({}, {}, {"revision": fix.digest.a}).reasons == ["the version is not above the active bundle's"]
}

test_other_bundle_is_denied if {
	report_of({"revision": fix.digest.c}, {}, active).reasons == ["the statement is of another bundle"]
}

test_statement_from_the_future_is_denied if {
	report_of({"issuedAt": 1000006}, {}, active).reasons == ["the statement was issued in the future"]
}

test_other_signer_is_denied if {
	every change in [{"roles": ["admin"]}, {"roles": null}, {"person": null}, {"signer": ""}] {
		report_of({}, change, active).reasons == ["the bundle is not signed by a person with the role security"]
	}
}
