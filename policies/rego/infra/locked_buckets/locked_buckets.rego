# METADATA
# title: Stores are locked
# description: Buckets keep versions under Object Lock in COMPLIANCE for the environment's floor, closed to the public and to plain HTTP; no change shortens that.
# custom:
#   owner: security
#   runbook: runbooks/infra-stores.md
#   severity: deny
#   reads: [account, changes, environment, layer, resources, statements]
#   limits: [limits.locked_stores, limits.plain_stores, limits.store_retention_days]
package sentinelnet.infra.locked_buckets

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.locked-buckets", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.locked-buckets", needs, met)

buckets := cloud.of("aws_s3_bucket")

# Everything is locked but what is listed as plain: a new bucket has to be put on that list by somebody.
locked := [b | some b in buckets; not plain(b)]

plain(b) if {
	some store in data.limits.plain_stores
	b.bucket == cloud.store_name(store)
}

wants := {
	"lock": "has no Object Lock: set object_lock_enabled",
	"mode": "has no default retention in COMPLIANCE: GOVERNANCE can be bypassed",
	"days": "keeps objects for less than the environment's floor: raise its retention",
}

common := {
	"versions": "does not keep versions: enable versioning",
	"public": "does not block public access: set all four flags",
	"tls": "may be reached without TLS: deny s3:* where aws:SecureTransport is false",
}

needs[cloud.key(b, want)] := cloud.says(b, text) if {
	some b in locked
	some want, text in wants
}

needs[cloud.key(b, want)] := cloud.says(b, text) if {
	some b in buckets
	some want, text in common
}

needs[store] := concat(" ", ["there is no bucket", cloud.store_name(store), "in the ground: each store has one"]) if {
	cloud.ground
	some store in data.limits.locked_stores
}

needs["changes"] := "the changes could not be read"

needs[cloud.key(c, "lowered")] := cloud.says(c, "would be kept for less time than before: retention is never lowered") if {
	some c in retentions
}

met contains store if {
	some store in data.limits.locked_stores
	some b in buckets
	b.bucket == cloud.store_name(store)
}

met contains cloud.key(b, "lock") if {
	some b in locked
	b.object_lock_enabled == true
}

met contains cloud.key(b, "mode") if {
	some b in locked
	cloud.only("aws_s3_bucket_object_lock_configuration", b).rule[0].default_retention[0].mode == "COMPLIANCE"
}

met contains cloud.key(b, "days") if {
	some b in locked
	days(cloud.only("aws_s3_bucket_object_lock_configuration", b)) >= data.limits.store_retention_days[input.environment]
}

met contains cloud.key(b, "versions") if {
	some b in buckets
	cloud.only("aws_s3_bucket_versioning", b).versioning_configuration[0].status == "Enabled"
}

met contains cloud.key(b, "public") if {
	some b in buckets
	closed(cloud.only("aws_s3_bucket_public_access_block", b))
}

met contains cloud.key(b, "tls") if {
	some b in buckets
	some s in input.statements
	s.governs == b.address
	denies_plain_http(s)
}

met contains "changes" if is_null(input.changes)

met contains "changes" if is_array(input.changes)

met contains cloud.key(c, "lowered") if {
	some c in retentions
	days(c.after) >= days(c.before)
}

retentions := [c |
	some c in input.changes
	c.type == "aws_s3_bucket_object_lock_configuration"
	is_object(c.before)
	is_object(c.after)
]

days(lock) := lock.rule[0].default_retention[0].days if {
	is_number(lock.rule[0].default_retention[0].days)
} else := lock.rule[0].default_retention[0].years * 365 if is_number(lock.rule[0].default_retention[0].years)

closed(block) if {
	block.block_public_acls == true
	block.block_public_policy == true
	block.ignore_public_acls == true
	block.restrict_public_buckets == true
}

denies_plain_http(statement) if {
	statement.effect == "Deny"
	statement.principals == ["*"]
	"s3:*" in statement.actions
	statement.conditions == [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}]
}
