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
	report_of(sam, ["trainer"], "policy.publish").reasons == ["spiffe://ai-infra.local/person/sam may not policy.publish: that takes the role security; the actor has trainer"]
	report_of(sam, ["trainer", "approver"], "quarantine.set").reasons == ["spiffe://ai-infra.local/person/sam may not quarantine.set: that takes the role auditor or security or steward; the actor has approver, trainer"]
	report_of(sam, [], "policy.publish").reasons == ["spiffe://ai-infra.local/person/sam may not policy.publish: that takes the role security; the actor has none"]
	report_of(sam, [], "policy.publish").verdict == "deny"
	report_of(sam, null, "policy.publish").verdict == "deny"
}

test_unknown_operation_is_denied if {
	report_of(sam, ["admin", "security"], "moon.land").verdict == "deny"
	report_of(sam, ["security"], null).reasons == ["spiffe://ai-infra.local/person/sam may not (unnamed): no role may; the actor has security"]
}

test_the_log_is_read_by_those_who_check_and_decisions_by_everybody_with_a_role if {
	every role in ["auditor", "security", "admin"] {
		report_of(sam, [role], "audit.read").verdict == "pass"
	}
	every role in ["approver", "deployer", "evaluator", "promoter", "steward", "trainer"] {
		report_of(sam, [role], "audit.read").verdict == "deny"
		report_of(sam, [role], "decision.read").verdict == "pass"
	}
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
