# METADATA
# title: Everything at rest is encrypted
# description: Disks, databases, buckets, queues, topics, logs, trails and vaults are encrypted; keys for data rotate; the database wants TLS.
# custom:
#   owner: security
#   runbook: runbooks/infra-encryption.md
#   severity: deny
#   reads: [account, environment, layer, resources, statements]
#   limits: [limits.plain_stores]
package sentinelnet.infra.encryption

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.encryption", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.encryption", needs, met)

# Type -> the attribute that names our key.
keyed := {
	"aws_backup_vault": "kms_key_arn",
	"aws_cloudtrail": "kms_key_id",
	"aws_cloudwatch_log_group": "kms_key_id",
	"aws_db_instance": "kms_key_id",
	"aws_ebs_volume": "kms_key_id",
	"aws_efs_file_system": "kms_key_id",
	"aws_secretsmanager_secret": "kms_key_id",
	"aws_sns_topic": "kms_master_key_id",
}

switches := {
	"aws_db_instance": "storage_encrypted",
	"aws_ebs_volume": "encrypted",
	"aws_efs_file_system": "encrypted",
}

data_keys := [k | some k in cloud.of("aws_kms_key"); object.get(k, "key_usage", "ENCRYPT_DECRYPT") == "ENCRYPT_DECRYPT"]

# KMS makes no new material for keys in a CloudHSM key store.
rotating_keys := [k | some k in data_keys; not cloud.is_given(object.get(k, "custom_key_store_id", ""))]

needs[cloud.key(r, "key")] := cloud.says(r, concat("", ["is not encrypted with a key of ours: set ", attribute])) if {
	some type, attribute in keyed
	some r in cloud.of(type)
}

needs[cloud.key(r, "switch")] := cloud.says(r, concat("", ["is not encrypted: set ", attribute])) if {
	some type, attribute in switches
	some r in cloud.of(type)
}

needs[cloud.key(q, "queue")] := cloud.says(q, "is not encrypted: set kms_master_key_id or sqs_managed_sse_enabled") if {
	some q in cloud.of("aws_sqs_queue")
}

needs[cloud.key(t, "disks")] := cloud.says(t, "starts nodes with disks that are not encrypted, or names no disk") if {
	some t in cloud.of("aws_launch_template")
}

needs[cloud.key(b, "bucket")] := cloud.says(b, "is not encrypted with a key of ours: set its default encryption to aws:kms") if {
	some b in cloud.of("aws_s3_bucket")
}

needs[cloud.key(k, "rotates")] := cloud.says(k, "does not rotate: set enable_key_rotation") if some k in rotating_keys

needs[cloud.key(d, "tls")] := cloud.says(d, "takes connections without TLS: set rds.force_ssl in its parameter group") if {
	some d in cloud.of("aws_db_instance")
}

met contains cloud.key(r, "key") if {
	some type, attribute in keyed
	some r in cloud.of(type)
	cloud.is_given(object.get(r, attribute, ""))
}

met contains cloud.key(r, "switch") if {
	some type, attribute in switches
	some r in cloud.of(type)
	object.get(r, attribute, false) == true
}

met contains cloud.key(q, "queue") if {
	some q in cloud.of("aws_sqs_queue")
	cloud.is_given(q.kms_master_key_id)
}

met contains cloud.key(q, "queue") if {
	some q in cloud.of("aws_sqs_queue")
	q.sqs_managed_sse_enabled == true
}

met contains cloud.key(t, "disks") if {
	some t in cloud.of("aws_launch_template")
	disks := t.block_device_mappings
	count(disks) > 0
	count(disks) == count([disk | some disk in disks; disk.ebs[0].encrypted == "true"; cloud.is_given(disk.ebs[0].kms_key_id)])
}

met contains cloud.key(b, "bucket") if {
	some b in cloud.of("aws_s3_bucket")
	how := cloud.only("aws_s3_bucket_server_side_encryption_configuration", b).rule[0].apply_server_side_encryption_by_default[0]
	how.sse_algorithm == "aws:kms"
	cloud.is_given(how.kms_master_key_id)
}

# S3 delivers access logs to buckets with SSE-S3 only.
met contains cloud.key(b, "bucket") if {
	some b in cloud.of("aws_s3_bucket")
	some store in data.limits.plain_stores
	b.bucket == cloud.store_name(store)
	how := cloud.only("aws_s3_bucket_server_side_encryption_configuration", b).rule[0].apply_server_side_encryption_by_default[0]
	how.sse_algorithm == "AES256"
}

met contains cloud.key(k, "rotates") if {
	some k in rotating_keys
	k.enable_key_rotation == true
}

met contains cloud.key(d, "tls") if {
	some d in cloud.of("aws_db_instance")
	some group in cloud.of("aws_db_parameter_group")
	d.parameter_group_name in [group.name, concat("", ["${", group.address, ".name}"])]
	some parameter in group.parameter
	parameter.name == "rds.force_ssl"
	parameter.value == "1"
}
