package sentinelnet.promotion.request_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.request
import rego.v1

report_of(request_change, version_change) := r if {
	r := request.report with input.now as fix.now
		with input.policyRevision as fix.digest.e
		with input.version as object.union(fix.version, version_change)
		with input.request as object.union(fix.request, request_change)
}

test_bound_request_passes if {
	report_of({}, {}) == {"rule": "promotion.request", "verdict": "pass", "reasons": []}
}

test_each_break_is_named if {
	every change, reason in {
		{"artifactId": fix.digest.e}: "the request is for another artifact",
		{"digest": "f"}: "the request has no digest",
		{"expiresAt": 999999}: "the request has expired",
		{"expiresAt": 1604701}: "the request is valid for longer than 604800 s",
		{"issuedAt": 1000006}: "the request was issued in the future",
		{"model": "other"}: "the request is for another model version",
		{"number": 2}: "the request is for another model version",
		{"nonce": ""}: "the request has no nonce",
		{"policyRevision": fix.digest.d}: "the request was made under another policy revision",
		{"requester": null}: "the requester is not a known promoter",
		{"requester": {"roles": ["approver"]}}: "the requester is not a known promoter",
		{"riskClass": "low"}: "the request names another risk class than the version has",
		{"runKey": fix.digest.e}: "the request is for another run",
		{"to": "dev"}: "no step leads from staging to dev",
	} {
		report_of(change, {}) == {"rule": "promotion.request", "verdict": "deny", "reasons": [reason]}
	}
}

test_version_moved_on_is_denied if {
	report_of({}, {"stage": "prod"}).reasons == ["the version is in stage prod, the request starts from staging"]
}

test_stage_cannot_be_jumped if {
	report_of({"from": "dev"}, {"stage": "dev"}).reasons == ["no step leads from dev to prod"]
}

test_clocks_may_differ_a_little if {
	report_of({"issuedAt": 1000005}, {}).verdict == "pass"
}

test_expiry_that_is_no_number_is_denied if {
	reasons := report_of({"expiresAt": "1000100"}, {}).reasons
	reasons == ["the request has expired", "the request is valid for longer than 604800 s"]
}

test_the_longest_validity_passes if {
	report_of({"expiresAt": 1604700}, {}).verdict == "pass"
}

test_expiry_before_issue_is_denied if {
	report_of({"issuedAt": 1000005, "expiresAt": 1000004}, {}).reasons == ["the request has expired"]
}

test_nothing_equals_nothing_is_denied if {
	r := request.report with input.now as fix.now
	r.verdict == "deny"
	count(r.reasons) == 13
}
