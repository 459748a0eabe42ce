package sentinelnet.infra.encryption_test

import data.sentinelnet.infra.encryption
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources) := r if {
	r := encryption.report with input.account as "111122223333" with input.environment as "prod" with input.layer as "ground" with input.resources as resources with input.statements as []
}

test_encrypted_environment_passes if {
	reported(fix.resources) == {"rule": "infra.encryption", "verdict": "pass", "reasons": []}
}

test_what_has_no_key_of_ours_is_denied if {
	every type, attribute in encryption.keyed {
		r := reported(object.union(fix.without(type), {type: [{"address": "a.b", "storage_encrypted": true, "encrypted": true, "parameter_group_name": "ai-infra-prod"}]}))
		r.reasons == [concat("", ["a.b is not encrypted with a key of ours: set ", attribute])]
	}
}

test_what_is_not_encrypted_is_denied if {
	reported(fix.changed("aws_db_instance", {"storage_encrypted": false})).reasons == ["aws_db_instance.main is not encrypted: set storage_encrypted"]
	reported(fix.added("aws_ebs_volume", {"address": "a.b", "kms_key_id": "k"})).reasons == ["a.b is not encrypted: set encrypted"]
}

test_queue_is_encrypted_with_either_key if {
	reported(fix.changed("aws_sqs_queue", {"sqs_managed_sse_enabled": false})).reasons == ["aws_sqs_queue.interruption is not encrypted: set kms_master_key_id or sqs_managed_sse_enabled"]
	reported(fix.changed("aws_sqs_queue", {"sqs_managed_sse_enabled": false, "kms_master_key_id": "k"})).verdict == "pass"
}

test_disks_of_nodes_that_are_not_encrypted_are_denied if {
	text := "aws_launch_template.gpu starts nodes with disks that are not encrypted, or names no disk"
	plain := {"ebs": [{"encrypted": "false", "kms_key_id": "k"}]}
	reported(fix.changed("aws_launch_template", {"block_device_mappings": []})).reasons == [text]
	reported(fix.changed("aws_launch_template", {"block_device_mappings": [{"ebs": [{"encrypted": "true", "kms_key_id": "k"}]}, plain]})).reasons == [text]
}

test_bucket_without_our_key_is_denied_but_for_access_logs if {
	text := "is not encrypted with a key of ours: set its default encryption to aws:kms"
	type := "aws_s3_bucket_server_side_encryption_configuration"
	r := reported(fix.changed(type, {"rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]}))
	r.reasons == [concat(" ", [bucket, text]) | some bucket in ["aws_s3_bucket.artifacts", "aws_s3_bucket.audit", "aws_s3_bucket.backups", "aws_s3_bucket.datasets"]]
	count(reported(fix.changed(type, {"rule": []})).reasons) == 5
}

test_key_that_does_not_rotate_is_denied if {
	patched := [object.union(k, object.get({"aws_kms_key.data": {"enable_key_rotation": false}}, k.address, {})) | some k in fix.resources.aws_kms_key]
	reported(object.union(fix.resources, {"aws_kms_key": patched})).reasons == ["aws_kms_key.data does not rotate: set enable_key_rotation"]
}

test_key_in_a_cloudhsm_store_need_not_rotate if {
	in_hsm := {"enable_key_rotation": false, "custom_key_store_id": "cks-0123456789abcdef0"}
	patched := [object.union(k, object.get({"aws_kms_key.data": in_hsm}, k.address, {})) | some k in fix.resources.aws_kms_key]
	reported(object.union(fix.resources, {"aws_kms_key": patched})).verdict == "pass"
}

test_database_without_tls_is_denied if {
	text := "aws_db_instance.main takes connections without TLS: set rds.force_ssl in its parameter group"
	reported(fix.changed("aws_db_parameter_group", {"parameter": [{"name": "rds.force_ssl", "value": "0"}]})).reasons == [text]
	reported(fix.changed("aws_db_instance", {"parameter_group_name": "default"})).reasons == [text]
	reported(fix.changed("aws_db_instance", {"parameter_group_name": "${aws_db_parameter_group.main.name}"})).verdict == "pass"
}
