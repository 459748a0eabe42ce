package sentinelnet.training.provenance_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.training.provenance
import rego.v1

test_complete_provenance_passes if {
	r := provenance.report with input.provenance as fix.provenance
		with input.version as fix.version
		with input.datasets as [fix.dataset]
	r == {"rule": "training.provenance", "verdict": "pass", "reasons": []}
}

test_each_break_is_named if {
	every change, reason in {
		{"artifactId": fix.digest.e}: "the provenance is of another artifact",
		{"missing": ["seed", "image"]}: "the provenance lacks inputs: image, seed",
		{"datasets": [fix.digest.e]}: "a data set of the run was not given to the policy",
		{"datasets": []}: "a data set of the run was not given to the policy",
		{"recomputedRunKey": fix.digest.e}: "the run key does not recompute, or is of another run",
		{"runKey": fix.digest.e, "recomputedRunKey": fix.digest.e}: "the run key does not recompute, or is of another run",
		{"role": "evaluator"}: "the provenance is not signed by a trusted builder",
		{"signer": null}: "the provenance is not signed by a trusted builder",
	} {
		r := provenance.report with input.provenance as object.union(fix.provenance, change)
			with input.version as fix.version
			with input.datasets as [fix.dataset]
		r == {"rule": "training.provenance", "verdict": "deny", "reasons": [reason]}
	}
}

test_no_provenance_is_denied if {
	r := provenance.report with input.provenance as null with input.version as fix.version
	r.verdict == "deny"
	"the provenance lacks inputs: all of them" in r.reasons
	count(r.reasons) == 5
}

test_odd_list_of_missing_inputs_is_denied if {
	r := provenance.report with input.provenance as object.union(fix.provenance, {"missing": "nothing"})
	r.verdict == "deny"
}
