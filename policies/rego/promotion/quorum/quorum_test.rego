package sentinelnet.promotion.quorum_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.promotion.quorum
import rego.v1

report_of(approvals) := r if {
	r := quorum.report with input.approvals as approvals with input.version as fix.version with input.request as fix.request
}

test_three_of_five_pass if {
	report_of([fix.approval(1), fix.approval(2), fix.approval(3)]) == {"rule": "promotion.quorum", "verdict": "pass", "reasons": []}
}

test_two_are_denied if {
	report_of([fix.approval(1), fix.approval(2)]).reasons == ["2 of 3 approvals by distinct people and keys"]
}

test_one_person_with_two_keys_counts_once if {
	again := object.union(fix.approval(2), {"signer": "key-9"})
	report_of([fix.approval(1), fix.approval(2), again]).verdict == "deny"
}

test_one_key_of_two_people_counts_once if {
	again := object.union(fix.approval(2), {"person": "spiffe://ai-infra.local/person/p9"})
	report_of([fix.approval(1), fix.approval(2), again]).verdict == "deny"
}

test_requester_does_not_count if {
	every own in [{"person": "spiffe://ai-infra.local/person/paula"}, {"signer": "key-0"}] {
		report_of([fix.approval(1), fix.approval(2), object.union(fix.approval(3), own)]).verdict == "deny"
	}
}

test_without_the_role_nobody_counts if {
	report_of([fix.approval(1), fix.approval(2), object.union(fix.approval(3), {"roles": ["deployer"]})]).verdict == "deny"
}

test_nameless_approvals_do_not_count if {
	report_of([null, "x", {"roles": ["approver"]}, {"roles": ["approver"], "person": "", "signer": ""}]).verdict == "deny"
}

test_low_risk_needs_one if {
	r := quorum.report with input.approvals as [fix.approval(1)]
		with input.version as object.union(fix.version, {"riskClass": "low"})
		with input.request as fix.request
	r.verdict == "pass"
}

test_request_cannot_lower_its_bar if {
	r := quorum.report with input.approvals as [fix.approval(1)]
		with input.version as fix.version
		with input.request as object.union(fix.request, {"riskClass": "low"})
	r.verdict == "deny"
}

test_unknown_risk_class_is_denied if {
	r := quorum.report with input.approvals as [fix.approval(1), fix.approval(2), fix.approval(3)]
		with input.version as object.union(fix.version, {"riskClass": "none"})
		with input.request as fix.request
	r.reasons == ["no number of approvals is set for this risk class and stage"]
}

test_low_risk_staging_needs_no_approval_but_a_list if {
	low := object.union(fix.version, {"riskClass": "low"})
	request := object.union(fix.request, {"from": "dev", "to": "staging"})
	r := quorum.report with input.approvals as [] with input.version as low with input.request as request
	r.verdict == "pass"
	s := quorum.report with input.approvals as null with input.version as low with input.request as request
	s.verdict == "deny"
}
