package sentinelnet.training.clean_tree_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.training.clean_tree
import rego.v1

test_committed_code_passes if {
	r := clean_tree.report with input.provenance as fix.provenance
	r == {"rule": "training.clean-tree", "verdict": "pass", "reasons": []}
}

test_changed_tree_is_denied if {
	every dirty in [true, null, "false", 0] {
		r := clean_tree.report with input.provenance as object.union(fix.provenance, {"dirty": dirty})
		r.verdict == "deny"
		r.reasons == ["the run's working tree had changes that are in no commit: commit or ignore them and train again"]
	}
}

test_no_provenance_is_denied if {
	r := clean_tree.report with input.provenance as null
	r.verdict == "deny"
}
