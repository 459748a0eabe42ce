package sentinelnet.dataset.pii_test

import data.sentinelnet.dataset.pii
import data.sentinelnet.fixtures_test as fix
import rego.v1

test_data_without_people_passes if {
	r := pii.report with input.datasets as [fix.dataset]
	r == {"rule": "dataset.pii", "verdict": "pass", "reasons": []}
}

test_personal_data_is_denied if {
	r := pii.report with input.datasets as [object.union(fix.dataset, {"pii": "present"})]
	r.verdict == "deny"
	r.reasons == [sprintf("data set %s: personal data is present and no steward approved it", [fix.digest.d])]
}

test_unknown_is_as_present if {
	r := pii.report with input.datasets as [object.union(fix.dataset, {"pii": "unknown"})]
	r.verdict == "deny"
}

test_approval_of_a_steward_passes if {
	approved := object.union(fix.dataset, {"pii": "present", "approvedBy": ["spiffe://ai-infra.local/person/stella"]})
	r := pii.report with input.datasets as [approved]
	r.verdict == "pass"
}

test_approval_by_nobody_is_denied if {
	every nobody in [[], [""], [null], null, "stella"] {
		r := pii.report with input.datasets as [object.union(fix.dataset, {"pii": "present", "approvedBy": nobody})]
		r.verdict == "deny"
	}
}

test_unknown_word_is_denied if {
	r := pii.report with input.datasets as [object.union(fix.dataset, {"pii": "maybe", "approvedBy": ["stella"]})]
	r.verdict == "deny"
}

test_data_set_that_is_no_object_is_denied if {
	r := pii.report with input.datasets as [7]
	r.reasons == ["the rule could not be evaluated"]
}
