# METADATA
# title: An environment that passes
# description: Parts of inputs for the tests of the infra rules; a small prod.
# custom:
#   owner: platform
#   runbook: runbooks/policy-decision.md
package sentinelnet.infra_fixtures_test

import rego.v1

# tests/policy keeps the same environment as JSON, for both engines.
environment := {
	"now": 1800000000,
	"environment": "prod",
	"layer": "ground",
	"account": "111122223333",
	"resources": {
		"aws_kms_key": [
			{"address": "aws_kms_key.data", "protect": true, "key_usage": "ENCRYPT_DECRYPT", "enable_key_rotation": true, "deletion_window_in_days": 30, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_kms_key.manifest", "protect": true, "key_usage": "SIGN_VERIFY", "customer_master_key_spec": "ECC_NIST_P256", "deletion_window_in_days": 30, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_kms_key.audit", "protect": true, "key_usage": "SIGN_VERIFY", "customer_master_key_spec": "ECC_NIST_P256", "deletion_window_in_days": 30, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_kms_replica_key": [
			{"address": "aws_kms_replica_key.manifest", "protect": true, "primary_key_arn": "${aws_kms_key.manifest.arn}", "deletion_window_in_days": 30, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_s3_bucket": [
			{"address": "aws_s3_bucket.artifacts", "protect": true, "bucket": "ai-infra-prod-111122223333-artifacts", "object_lock_enabled": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_s3_bucket.audit", "protect": true, "bucket": "ai-infra-prod-111122223333-audit", "object_lock_enabled": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_s3_bucket.backups", "protect": true, "bucket": "ai-infra-prod-111122223333-backups", "object_lock_enabled": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_s3_bucket.datasets", "protect": true, "bucket": "ai-infra-prod-111122223333-datasets", "object_lock_enabled": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
			{"address": "aws_s3_bucket.access-logs", "protect": true, "bucket": "ai-infra-prod-111122223333-access-logs", "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_s3_bucket_versioning": [
			{"address": "aws_s3_bucket_versioning.artifacts", "protect": true, "target": "aws_s3_bucket.artifacts", "versioning_configuration": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_versioning.audit", "protect": true, "target": "aws_s3_bucket.audit", "versioning_configuration": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_versioning.backups", "protect": true, "target": "aws_s3_bucket.backups", "versioning_configuration": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_versioning.datasets", "protect": true, "target": "aws_s3_bucket.datasets", "versioning_configuration": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_versioning.access-logs", "protect": true, "target": "aws_s3_bucket.access-logs", "versioning_configuration": [{"status": "Enabled"}]},
		],
		"aws_s3_bucket_public_access_block": [
			{"address": "aws_s3_bucket_public_access_block.artifacts", "protect": false, "target": "aws_s3_bucket.artifacts", "block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true},
			{"address": "aws_s3_bucket_public_access_block.audit", "protect": false, "target": "aws_s3_bucket.audit", "block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true},
			{"address": "aws_s3_bucket_public_access_block.backups", "protect": false, "target": "aws_s3_bucket.backups", "block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true},
			{"address": "aws_s3_bucket_public_access_block.datasets", "protect": false, "target": "aws_s3_bucket.datasets", "block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true},
			{"address": "aws_s3_bucket_public_access_block.access-logs", "protect": false, "target": "aws_s3_bucket.access-logs", "block_public_acls": true, "block_public_policy": true, "ignore_public_acls": true, "restrict_public_buckets": true},
		],
		"aws_s3_bucket_server_side_encryption_configuration": [
			{"address": "aws_s3_bucket_server_side_encryption_configuration.artifacts", "protect": false, "target": "aws_s3_bucket.artifacts", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.data.arn}"}]}]},
			{"address": "aws_s3_bucket_server_side_encryption_configuration.audit", "protect": false, "target": "aws_s3_bucket.audit", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.data.arn}"}]}]},
			{"address": "aws_s3_bucket_server_side_encryption_configuration.backups", "protect": false, "target": "aws_s3_bucket.backups", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.data.arn}"}]}]},
			{"address": "aws_s3_bucket_server_side_encryption_configuration.datasets", "protect": false, "target": "aws_s3_bucket.datasets", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.data.arn}"}]}]},
			{"address": "aws_s3_bucket_server_side_encryption_configuration.access-logs", "protect": false, "target": "aws_s3_bucket.access-logs", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]},
		],
		"aws_s3_bucket_object_lock_configuration": [
			{"address": "aws_s3_bucket_object_lock_configuration.artifacts", "protect": true, "target": "aws_s3_bucket.artifacts", "rule": [{"default_retention": [{"mode": "COMPLIANCE", "days": 2557}]}]},
			{"address": "aws_s3_bucket_object_lock_configuration.audit", "protect": true, "target": "aws_s3_bucket.audit", "rule": [{"default_retention": [{"mode": "COMPLIANCE", "years": 8}]}]},
			{"address": "aws_s3_bucket_object_lock_configuration.backups", "protect": true, "target": "aws_s3_bucket.backups", "rule": [{"default_retention": [{"mode": "COMPLIANCE", "days": 2557}]}]},
			{"address": "aws_s3_bucket_object_lock_configuration.datasets", "protect": true, "target": "aws_s3_bucket.datasets", "rule": [{"default_retention": [{"mode": "COMPLIANCE", "days": 2557}]}]},
		],
		"aws_s3_bucket_replication_configuration": [
			{"address": "aws_s3_bucket_replication_configuration.artifacts", "protect": false, "target": "aws_s3_bucket.artifacts", "rule": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_replication_configuration.audit", "protect": false, "target": "aws_s3_bucket.audit", "rule": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_replication_configuration.backups", "protect": false, "target": "aws_s3_bucket.backups", "rule": [{"status": "Enabled"}]},
			{"address": "aws_s3_bucket_replication_configuration.datasets", "protect": false, "target": "aws_s3_bucket.datasets", "rule": [{"status": "Enabled"}]},
		],
		"aws_vpc": [
			{"address": "aws_vpc.main", "protect": false, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_flow_log": [
			{"address": "aws_flow_log.main", "protect": false, "target": "aws_vpc.main", "traffic_type": "ALL", "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_subnet": [
			{"address": "aws_subnet.a", "protect": false, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_default_security_group": [
			{"address": "aws_default_security_group.main", "protect": false, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_security_group": [
			{"address": "aws_security_group.db", "protect": false, "ingress": [{"from_port": 5432, "to_port": 5432, "protocol": "tcp", "cidr_blocks": ["10.0.0.0/16"]}], "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_vpc_security_group_ingress_rule": [
			{"address": "aws_vpc_security_group_ingress_rule.db", "protect": false, "from_port": 5432, "to_port": 5432, "ip_protocol": "tcp", "cidr_ipv4": "10.0.0.0/16", "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_security_group_rule": [
			{"address": "aws_security_group_rule.all_out", "protect": false, "type": "egress", "cidr_blocks": ["0.0.0.0/0"]},
		],
		"aws_eks_cluster": [
			{"address": "aws_eks_cluster.main", "protect": true, "name": "ai-infra-prod", "vpc_config": [{"endpoint_private_access": true, "endpoint_public_access": false}], "enabled_cluster_log_types": ["api", "audit", "authenticator", "controllerManager", "scheduler"], "encryption_config": [{"resources": ["secrets"], "provider": [{"key_arn": "${aws_kms_key.data.arn}"}]}], "access_config": [{"authentication_mode": "API"}], "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_launch_template": [
			{"address": "aws_launch_template.gpu", "protect": false, "metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 1}], "block_device_mappings": [{"device_name": "/dev/xvda", "ebs": [{"encrypted": "true", "kms_key_id": "${aws_kms_key.data.arn}"}]}], "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_eks_node_group": [
			{"address": "aws_eks_node_group.gpu", "protect": false, "instance_types": ["g5.xlarge"], "launch_template": [{"version": "1"}], "taint": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}], "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_db_parameter_group": [
			{"address": "aws_db_parameter_group.main", "protect": false, "name": "ai-infra-prod", "parameter": [{"name": "rds.force_ssl", "value": "1"}], "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_db_instance": [
			{"address": "aws_db_instance.main", "protect": true, "kms_key_id": "${aws_kms_key.data.arn}", "storage_encrypted": true, "parameter_group_name": "ai-infra-prod", "backup_retention_period": 35, "multi_az": true, "deletion_protection": true, "skip_final_snapshot": false, "publicly_accessible": false, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_cloudwatch_log_group": [
			{"address": "aws_cloudwatch_log_group.flow", "protect": true, "kms_key_id": "${aws_kms_key.data.arn}", "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_sqs_queue": [
			{"address": "aws_sqs_queue.interruption", "protect": false, "sqs_managed_sse_enabled": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_cloudtrail": [
			{"address": "aws_cloudtrail.main", "protect": true, "kms_key_id": "${aws_kms_key.data.arn}", "enable_log_file_validation": true, "enable_logging": true, "is_multi_region_trail": true, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_backup_vault": [
			{"address": "aws_backup_vault.main", "protect": true, "kms_key_arn": "${aws_kms_key.data.arn}", "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_backup_vault_lock_configuration": [
			{"address": "aws_backup_vault_lock_configuration.main", "protect": true, "target": "aws_backup_vault.main", "changeable_for_days": 3, "min_retention_days": 35},
		],
		"aws_backup_plan": [
			{"address": "aws_backup_plan.main", "protect": false, "tags": {"team": "ml-platform", "environment": "prod", "cost_centre": "4711"}},
		],
		"aws_backup_selection": [
			{"address": "aws_backup_selection.main", "protect": false},
		],
		"aws_iam_role_policy_attachment": [
			{"address": "aws_iam_role_policy_attachment.node", "protect": false, "policy_arn": "${aws_iam_policy.node.arn}"},
		],
	},
	"statements": [
		{"id": "aws_kms_key.manifest#Sign", "governs": "aws_kms_key.manifest", "kind": "resource", "effect": "Allow", "principals": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [], "holders": []},
		{"id": "aws_kms_key.manifest#NobodyElse", "governs": "aws_kms_key.manifest", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [{"test": "ArnNotEquals", "key": "aws:principalarn", "values": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"]}], "holders": []},
		{"id": "aws_kms_replica_key.manifest#Sign", "governs": "aws_kms_replica_key.manifest", "kind": "resource", "effect": "Allow", "principals": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [], "holders": []},
		{"id": "aws_kms_replica_key.manifest#NobodyElse", "governs": "aws_kms_replica_key.manifest", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [{"test": "ArnNotEquals", "key": "aws:principalarn", "values": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"]}], "holders": []},
		{"id": "aws_kms_key.audit#Sign", "governs": "aws_kms_key.audit", "kind": "resource", "effect": "Allow", "principals": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [], "holders": []},
		{"id": "aws_kms_key.audit#NobodyElse", "governs": "aws_kms_key.audit", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [{"test": "ArnNotEquals", "key": "aws:principalarn", "values": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"]}], "holders": []},
		{"id": "aws_iam_role_policy.proxy#Sign", "governs": "aws_iam_role_policy.proxy", "kind": "identity", "effect": "Allow", "principals": [], "actions": ["kms:sign"], "notActions": [], "resources": ["${aws_kms_key.manifest.arn}"], "notResources": [], "conditions": [], "holders": ["arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"]},
		{"id": "aws_s3_bucket_policy.artifacts#TlsOnly", "governs": "aws_s3_bucket.artifacts", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["s3:*"], "notActions": [], "resources": ["${aws_s3_bucket.artifacts.arn}", "${aws_s3_bucket.artifacts.arn}/*"], "notResources": [], "conditions": [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}], "holders": []},
		{"id": "aws_s3_bucket_policy.audit#TlsOnly", "governs": "aws_s3_bucket.audit", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["s3:*"], "notActions": [], "resources": ["${aws_s3_bucket.audit.arn}", "${aws_s3_bucket.audit.arn}/*"], "notResources": [], "conditions": [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}], "holders": []},
		{"id": "aws_s3_bucket_policy.backups#TlsOnly", "governs": "aws_s3_bucket.backups", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["s3:*"], "notActions": [], "resources": ["${aws_s3_bucket.backups.arn}", "${aws_s3_bucket.backups.arn}/*"], "notResources": [], "conditions": [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}], "holders": []},
		{"id": "aws_s3_bucket_policy.datasets#TlsOnly", "governs": "aws_s3_bucket.datasets", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["s3:*"], "notActions": [], "resources": ["${aws_s3_bucket.datasets.arn}", "${aws_s3_bucket.datasets.arn}/*"], "notResources": [], "conditions": [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}], "holders": []},
		{"id": "aws_s3_bucket_policy.access-logs#TlsOnly", "governs": "aws_s3_bucket.access-logs", "kind": "resource", "effect": "Deny", "principals": ["*"], "actions": ["s3:*"], "notActions": [], "resources": ["${aws_s3_bucket.access-logs.arn}", "${aws_s3_bucket.access-logs.arn}/*"], "notResources": [], "conditions": [{"test": "Bool", "key": "aws:securetransport", "values": ["false"]}], "holders": []},
		{"id": "aws_iam_policy.node#Describe", "governs": "aws_iam_policy.node", "kind": "identity", "effect": "Allow", "principals": [], "actions": ["ec2:describeinstances"], "notActions": [], "resources": ["*"], "notResources": [], "conditions": [], "holders": []},
	],
	"texts": [
		{"resource": "aws_db_instance.main", "path": "identifier", "text": "ai-infra-prod"},
	],
	"changes": [
		{"address": "aws_kms_key.data", "type": "aws_kms_key", "actions": ["delete", "create"], "protect": true, "before": {}, "after": {}},
		{"address": "aws_s3_bucket_object_lock_configuration.audit", "type": "aws_s3_bucket_object_lock_configuration", "actions": ["update"], "protect": true, "before": {"rule": [{"default_retention": [{"mode": "COMPLIANCE", "days": 2557}]}]}, "after": {"rule": [{"default_retention": [{"mode": "COMPLIANCE", "years": 8}]}]}},
	],
	"exceptions": [
		{"rule": "infra.iam-wildcards", "resource": "aws_iam_policy.node#Describe", "reason": "EC2 describes instances in no narrower way.", "approvedBy": "sam", "expires": 1810000000},
		{"rule": "infra.destruction", "resource": "aws_kms_key.data", "reason": "The key moves into the CloudHSM key store.", "approvedBy": "sam", "expires": 1810000000},
	],
}

resources := environment.resources

statements := environment.statements

proxy := "arn:aws:iam::111122223333:role/ai-infra-prod-signing-proxy"

# All resources of a type with other values.
changed(type, patch) := object.union(resources, {type: [object.union(r, patch) | some r in resources[type]]})

without(type) := object.remove(resources, [type])

added(type, resource) := object.union(resources, {type: array.concat(object.get(resources, type, []), [resource])})

# The statement with this id with other values.
restated(id, patch) := array.concat([s | some s in statements; s.id != id], [object.union(s, patch) | some s in statements; s.id == id])

statement := {
	"id": "aws_iam_policy.p#S", "governs": "aws_iam_policy.p", "kind": "identity", "effect": "Allow", "principals": [],
	"actions": ["s3:getobject"], "notActions": [], "resources": ["arn:aws:s3:::b/*"], "notResources": [], "conditions": [], "holders": [],
}
