package sentinelnet.infra.destruction_test

import data.sentinelnet.infra.destruction
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(changes, exceptions) := r if {
	r := destruction.report with input.environment as "prod" with input.layer as "ground" with input.now as 1000
		with input.resources as fix.resources
		with input.statements as []
		with input.changes as changes
		with input.exceptions as exceptions
}

change := {"address": "aws_vpc.main", "type": "aws_vpc", "actions": ["delete", "create"], "protect": false, "before": {}, "after": {}}

bucket := object.union(change, {"address": "aws_s3_bucket.b", "type": "aws_s3_bucket"})

denied := ["aws_s3_bucket.b holds state or is protected, and would be destroyed: keep it, or write an exception in stacks/exceptions.yaml"]

exception := {"rule": "infra.destruction", "resource": "aws_s3_bucket.b", "reason": "It moves.", "approvedBy": "sam", "expires": 2000}

test_change_that_destroys_no_state_passes if {
	reported(null, []) == {"rule": "infra.destruction", "verdict": "pass", "reasons": []}
	reported([], []).verdict == "pass"
	reported([change], []).verdict == "pass"
	reported([object.union(bucket, {"actions": ["update"]})], []).verdict == "pass"
}

test_destroyed_state_is_denied if {
	every actions in [["delete"], ["delete", "create"], ["create", "delete"], ["forget"]] {
		reported([object.union(bucket, {"actions": actions})], []).reasons == denied
	}
}

test_destroyed_protected_resource_is_denied if {
	reported([object.union(change, {"protect": true})], []).verdict == "deny"
}

test_written_exception_lets_it_go if {
	reported([bucket], [exception]).verdict == "pass"
	reported([bucket], [object.union(exception, {"resource": "aws_s3_bucket.c"})]).reasons == denied
	destruction.wrong == {"aws_s3_bucket.b"} with input.changes as [bucket]
}

test_changes_that_cannot_be_read_are_denied if {
	every changes in ["none", [null], [object.union(change, {"actions": ["vanish"]})], [object.union(change, {"actions": []})], [object.union(bucket, {"address": ["x"]})], [object.remove(change, ["protect"])]] {
		reported(changes, []).reasons == ["the changes could not be read"]
	}
}
