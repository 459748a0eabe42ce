package sentinelnet.dataset.licence_test

import data.sentinelnet.dataset.licence
import data.sentinelnet.fixtures_test as fix
import rego.v1

test_listed_licence_passes if {
	r := licence.report with input.datasets as [fix.dataset] with input.job as {"purpose": "commercial"}
	r == {"rule": "dataset.licence", "verdict": "pass", "reasons": []}
}

test_non_commercial_licence_is_for_research_only if {
	nc := object.union(fix.dataset, {"licence": "CC-BY-NC-4.0"})
	r := licence.report with input.datasets as [fix.dataset, nc] with input.job as {"purpose": "commercial"}
	r.verdict == "deny"
	r.reasons == [sprintf("data set %s has the licence CC-BY-NC-4.0, which is not on the list for commercial use", [fix.digest.d])]
	s := licence.report with input.datasets as [nc] with input.job as {"purpose": "research"}
	s.verdict == "pass"
}

test_without_purpose_the_strictest_list_counts if {
	r := licence.report with input.datasets as [object.union(fix.dataset, {"licence": "CC-BY-NC-4.0"})]
	r.verdict == "deny"
	s := licence.report with input.datasets as [object.union(fix.dataset, {"licence": "CC-BY-NC-4.0"})] with input.provenance as {"purpose": null}
	s.verdict == "deny"
}

test_promotion_takes_the_purpose_of_the_run if {
	nc := object.union(fix.dataset, {"licence": "CC-BY-NC-4.0"})
	r := licence.report with input.datasets as [nc] with input.provenance as {"purpose": "research"}
	r.verdict == "pass"
}

test_unknown_purpose_is_denied if {
	r := licence.report with input.datasets as [fix.dataset] with input.job as {"purpose": "fun"}
	r.verdict == "deny"
}

test_no_data_set_is_denied if {
	r := licence.report with input.datasets as []
	r == {"rule": "dataset.licence", "verdict": "deny", "reasons": ["no data set is named"]}
}

test_data_set_that_is_no_object_is_denied if {
	r := licence.report with input.datasets as [fix.dataset, "digits"]
	r == {"rule": "dataset.licence", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}
}
