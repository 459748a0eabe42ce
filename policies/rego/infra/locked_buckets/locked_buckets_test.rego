package sentinelnet.infra.locked_buckets_test

import data.sentinelnet.infra.locked_buckets
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources, statements, changes) := r if {
	r := locked_buckets.report with input.account as "111122223333" with input.environment as "prod" with input.layer as "ground" with input.changes as changes
		with input.resources as resources
		with input.statements as statements
}

having(resources) := reported(resources, fix.statements, null).reasons

only_audit(type, patch) := object.union(fix.resources, {type: [object.union(r, object.get({"aws_s3_bucket.audit": patch}, object.get(r, "target", r.address), {})) |
	some r in fix.resources[type]
]})

retention(mode, days) := {"rule": [{"default_retention": [{"mode": mode, "days": days}]}]}

lock := "aws_s3_bucket_object_lock_configuration"

test_locked_stores_pass if {
	reported(fix.resources, fix.statements, null) == {"rule": "infra.locked-buckets", "verdict": "pass", "reasons": []}
}

test_store_that_is_missing_is_denied if {
	r := having(fix.changed("aws_s3_bucket", {"bucket": "other"}))
	"there is no bucket ai-infra-prod-111122223333-audit in the ground: each store has one" in r
}

test_store_named_without_its_account_is_missing if {
	r := having(fix.changed("aws_s3_bucket", {"bucket": "ai-infra-prod-audit"}))
	"there is no bucket ai-infra-prod-111122223333-audit in the ground: each store has one" in r
}

test_bucket_without_object_lock_is_denied if {
	having(only_audit("aws_s3_bucket", {"object_lock_enabled": false})) == ["aws_s3_bucket.audit has no Object Lock: set object_lock_enabled"]
}

test_governance_is_denied if {
	having(only_audit(lock, retention("GOVERNANCE", 3000))) == ["aws_s3_bucket.audit has no default retention in COMPLIANCE: GOVERNANCE can be bypassed"]
}

test_retention_under_the_floor_is_denied if {
	having(only_audit(lock, retention("COMPLIANCE", 2556))) == ["aws_s3_bucket.audit keeps objects for less than the environment's floor: raise its retention"]
}

test_bucket_that_keeps_no_versions_is_denied if {
	having(only_audit("aws_s3_bucket_versioning", {"versioning_configuration": [{"status": "Suspended"}]})) == ["aws_s3_bucket.audit does not keep versions: enable versioning"]
}

test_bucket_open_to_the_public_is_denied if {
	every flag in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] {
		having(only_audit("aws_s3_bucket_public_access_block", {flag: false})) == ["aws_s3_bucket.audit does not block public access: set all four flags"]
	}
}

test_bucket_reached_without_tls_is_denied if {
	text := "aws_s3_bucket.audit may be reached without TLS: deny s3:* where aws:SecureTransport is false"
	id := "aws_s3_bucket_policy.audit#TlsOnly"
	every patch in [{"effect": "Allow"}, {"principals": ["arn:aws:iam::111122223333:root"]}, {"actions": ["s3:getobject"]}, {"conditions": []}] {
		reported(fix.resources, fix.restated(id, patch), null).reasons == [text]
	}
}

test_retention_that_a_change_lowers_is_denied if {
	change := {"address": "a.b", "type": lock, "actions": ["update"], "protect": true, "before": retention("COMPLIANCE", 9000), "after": retention("COMPLIANCE", 8999)}
	reported(fix.resources, fix.statements, [change]).reasons == ["a.b would be kept for less time than before: retention is never lowered"]
	reported(fix.resources, fix.statements, [object.union(change, {"after": retention("COMPLIANCE", 9000)})]).verdict == "pass"
	reported(fix.resources, fix.statements, [object.union(change, {"after": {"rule": []}})]).verdict == "deny"
}

test_changes_not_read_are_denied if {
	reported(fix.resources, fix.statements, "none").reasons == ["the changes could not be read"]
}
