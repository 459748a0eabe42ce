package sentinelnet.dataset.blocked_test

import data.sentinelnet.dataset.blocked
import data.sentinelnet.fixtures_test as fix
import rego.v1

test_nothing_is_blocked_at_first if {
	r := blocked.report with input.datasets as [fix.dataset]
	r == {"rule": "dataset.blocked", "verdict": "pass", "reasons": []}
}

test_blocked_data_set_is_denied_by_name if {
	r := blocked.report with input.datasets as [fix.dataset] with data.limits.blocked_datasets as [fix.digest.e, fix.digest.d]
	r == {"rule": "dataset.blocked", "verdict": "deny", "reasons": [sprintf("data set %s is blocked, or its bytes have another digest", [fix.digest.d])]}
}

test_without_a_list_nothing_passes if {
	r := blocked.report with input.datasets as [fix.dataset] with data.limits.blocked_datasets as null
	r.verdict == "deny"
}

test_only_what_is_blocked_is_named if {
	other := object.union(fix.dataset, {"id": fix.digest.e})
	r := blocked.report with input.datasets as [fix.dataset, other] with data.limits.blocked_datasets as [fix.digest.d]
	r.reasons == [sprintf("data set %s is blocked, or its bytes have another digest", [fix.digest.d])]
}

test_two_digests_are_no_digest_of_one if {
	every id in [sprintf("%s,%s", [fix.digest.d, fix.digest.e]), concat("", [fix.digest.d, "0"]), upper(fix.digest.d), [fix.digest.d], 7] {
		r := blocked.report with input.datasets as [object.union(fix.dataset, {"id": id})]
		r.verdict == "deny"
	}
}

test_data_set_without_digest_is_denied if {
	r := blocked.report with input.datasets as [{"licence": "MIT"}]
	r.reasons == ["data set (unnamed) is blocked, or its bytes have another digest"]
}

test_data_set_that_is_no_object_is_denied if {
	r := blocked.report with input.datasets as [null]
	r.reasons == ["the rule could not be evaluated"]
}
