# METADATA
# title: What is lost can be had back
# description: Databases are backed up for the environment's floor and the trail is validated; in prod also Multi-AZ, deletion protection, protected state, replicas and a locked vault.
# custom:
#   owner: platform
#   runbook: runbooks/infra-recovery.md
#   severity: deny
#   reads: [account, environment, layer, resources, statements]
#   limits: [limits.backup_days, limits.locked_stores, limits.stateful_types]
package sentinelnet.infra.recovery

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.recovery", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.recovery", needs, met)

databases := cloud.of("aws_db_instance")

vaults := cloud.of("aws_backup_vault")

trails := cloud.of("aws_cloudtrail")

in_prod := {
	"zones": "stands in one zone: set multi_az",
	"deletion": "may be deleted by one call: set deletion_protection",
	"snapshot": "would be deleted without a last snapshot: unset skip_final_snapshot",
}

ground := {
	"database": databases,
	"trail": trails,
	"backup vault": vaults,
	"backup plan": cloud.of("aws_backup_plan"),
	"backup selection": cloud.of("aws_backup_selection"),
}

needs[what] := concat("", ["the ground has no ", what]) if {
	cloud.ground
	some what, _ in ground
}

needs[cloud.key(d, "backups")] := cloud.says(d, "is backed up for less than the environment's floor: raise backup_retention_period") if {
	some d in databases
}

needs[cloud.key(t, "trail")] := cloud.says(t, "is off, of one region, or its files cannot be validated") if some t in trails

needs[cloud.key(d, want)] := cloud.says(d, text) if {
	cloud.prod
	some d in databases
	some want, text in in_prod
}

needs[cloud.key(v, "vault")] := cloud.says(v, "is not locked: its backups could be deleted") if {
	cloud.prod
	some v in vaults
}

needs[cloud.key(b, "replica")] := cloud.says(b, "has no replica in another region") if {
	cloud.prod
	some b in stores
}

needs[cloud.key(r, "protect")] := cloud.says(r, "holds state and could be destroyed by a change of the program: give it protect") if {
	cloud.prod
	some r in stateful
}

stores := [b |
	some store in data.limits.locked_stores
	some b in cloud.of("aws_s3_bucket")
	b.bucket == cloud.store_name(store)
]

stateful := [r | some type in data.limits.stateful_types; some r in cloud.of(type)]

met contains what if {
	some what, found in ground
	count(found) > 0
}

met contains cloud.key(d, "backups") if {
	some d in databases
	is_number(d.backup_retention_period)
	d.backup_retention_period >= data.limits.backup_days[input.environment]
}

met contains cloud.key(t, "trail") if {
	some t in trails
	t.enable_log_file_validation == true
	t.enable_logging == true
	t.is_multi_region_trail == true
}

met contains cloud.key(d, "zones") if {
	some d in databases
	d.multi_az == true
}

met contains cloud.key(d, "deletion") if {
	some d in databases
	d.deletion_protection == true
}

met contains cloud.key(d, "snapshot") if {
	some d in databases
	d.skip_final_snapshot == false
}

# changeable_for_days makes it a compliance lock; without it the lock can be taken off again.
met contains cloud.key(v, "vault") if {
	some v in vaults
	lock := cloud.only("aws_backup_vault_lock_configuration", v)
	is_number(lock.changeable_for_days)
	lock.min_retention_days >= data.limits.backup_days[input.environment]
}

met contains cloud.key(b, "replica") if {
	some b in stores
	some rule in cloud.only("aws_s3_bucket_replication_configuration", b).rule
	rule.status == "Enabled"
}

met contains cloud.key(r, "protect") if {
	some r in stateful
	r.protect == true
}
