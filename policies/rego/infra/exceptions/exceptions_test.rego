package sentinelnet.infra.exceptions_test

import data.sentinelnet.infra.exceptions
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(written, changes) := r if {
	r := exceptions.report with input.environment as "prod" with input.layer as "ground" with input.now as 1000
		with input.resources as fix.resources
		with input.statements as [object.union(fix.statement, {"actions": ["*"]})]
		with input.changes as changes
		with input.exceptions as written
}

wildcard := {"rule": "infra.iam-wildcards", "resource": "aws_iam_policy.p#S", "reason": "It can be no narrower.", "approvedBy": "sam", "expires": 2000}

gone := {"rule": "infra.destruction", "resource": "aws_s3_bucket.b", "reason": "It moves.", "approvedBy": "sam", "expires": 2000}

change := {"address": "aws_s3_bucket.b", "type": "aws_s3_bucket", "actions": ["delete"], "protect": true}

test_no_exception_passes if {
	reported([], null) == {"rule": "infra.exceptions", "verdict": "pass", "reasons": []}
}

test_needed_exceptions_pass if {
	reported([wildcard, gone], [change]).verdict == "pass"
}

test_exception_that_nothing_needs_is_denied if {
	other := object.union(wildcard, {"resource": "aws_iam_policy.q#S"})
	reported([other], null).reasons == ["aws_iam_policy.q#S has an exception from infra.iam-wildcards that nothing needs: remove it"]
	reported([gone], []).reasons == ["aws_s3_bucket.b has an exception from infra.destruction that nothing needs: remove it"]
}

test_without_a_base_no_change_is_missed if {
	reported([gone], null).verdict == "pass"
}

test_exception_without_reason_or_past_its_end_is_denied if {
	every patch in [{"reason": ""}, {"approvedBy": ""}, {"expires": 999}, {"expires": 1e9}] {
		reported([object.union(wildcard, patch)], null).reasons == ["aws_iam_policy.p#S has an exception from infra.iam-wildcards without a reason or approver, whose end is past or over a year away, or whose rule takes none"]
	}
	reported([object.union(wildcard, {"rule": "infra.signing-keys"})], null).verdict == "deny"
}

test_exceptions_not_read_are_denied if {
	r := exceptions.report with input.environment as "prod" with input.layer as "ground" with input.resources as fix.resources with input.statements as []
	r.verdict == "deny"
}
