package sentinelnet.authz.operation_test

import data.sentinelnet.authz.operation
import rego.v1

report_of(actor, roles, name) := r if {
	r := operation.report with input.actor as actor with input.roles as roles with input.operation as name
}

sam := "spiffe://ai-infra.local/person/sam"

test_role_allows if {
	report_of(sam, ["auditor", "security"], "policy.publish") == {"rule": "authz.operation", "verdict": "pass", "reasons": []}
}

test_other_role_is_denied if {
	report_of(sam, ["trainer"], "policy.publish").reasons == ["spiffe://ai-infra.local/person/sam may not policy.publish"]
	report_of(sam, [], "policy.publish").verdict == "deny"
	report_of(sam, null, "policy.publish").verdict == "deny"
}

test_unknown_operation_is_denied if {
	report_of(sam, ["admin", "security"], "moon.land").verdict == "deny"
	report_of(sam, ["security"], null).reasons == ["spiffe://ai-infra.local/person/sam may not (unnamed)"]
}

test_stranger_is_denied if {
	report_of("spiffe://elsewhere/person/sam", ["security"], "policy.publish").verdict == "deny"
	report_of(null, ["security"], "policy.publish").verdict == "deny"
}

test_service_acts_by_its_name if {
	router := "spiffe://ai-infra.local/service/router"
	report_of(router, [], "predictions.seal").verdict == "pass"
	report_of(router, ["security"], "policy.publish").verdict == "deny"
}

test_person_does_not_act_as_a_service if {
	report_of(sam, ["security"], "predictions.seal").verdict == "deny"
}
