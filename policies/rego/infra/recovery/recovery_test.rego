package sentinelnet.infra.recovery_test

import data.sentinelnet.infra.recovery
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(environment, resources) := r if {
	r := recovery.report with input.account as "111122223333" with input.environment as environment with input.layer as "ground" with input.resources as resources with input.statements as []
}

test_prod_that_can_be_had_back_passes if {
	reported("prod", fix.resources) == {"rule": "infra.recovery", "verdict": "pass", "reasons": []}
}

test_ground_lacks_nothing_that_backs_up if {
	r := reported("dev", {"aws_vpc": [{"address": "aws_vpc.main"}]})
	r.reasons == ["the ground has no backup plan", "the ground has no backup selection", "the ground has no backup vault", "the ground has no database", "the ground has no trail"]
}

test_database_backed_up_too_shortly_is_denied if {
	text := "aws_db_instance.main is backed up for less than the environment's floor: raise backup_retention_period"
	reported("prod", fix.changed("aws_db_instance", {"backup_retention_period": 34})).reasons == [text]
	reported("dev", fix.changed("aws_db_instance", {"backup_retention_period": 0})).reasons == [text]
	reported("dev", fix.changed("aws_db_instance", {"backup_retention_period": "9"})).reasons == [text]
}

test_trail_that_proves_nothing_is_denied if {
	text := "aws_cloudtrail.main is off, of one region, or its files cannot be validated"
	every flag in ["enable_log_file_validation", "enable_logging", "is_multi_region_trail"] {
		reported("dev", fix.changed("aws_cloudtrail", {flag: false})).reasons == [text]
	}
}

test_prod_database_is_on_two_zones_and_hard_to_delete if {
	cases := {
		"stands in one zone: set multi_az": {"multi_az": false},
		"may be deleted by one call: set deletion_protection": {"deletion_protection": false},
		"would be deleted without a last snapshot: unset skip_final_snapshot": {"skip_final_snapshot": true},
	}
	every text, patch in cases {
		reported("prod", fix.changed("aws_db_instance", patch)).reasons == [concat(" ", ["aws_db_instance.main", text])]
		reported("dev", fix.changed("aws_db_instance", patch)).verdict == "pass"
	}
}

test_prod_vault_is_locked_for_good if {
	text := "aws_backup_vault.main is not locked: its backups could be deleted"
	reported("prod", fix.without("aws_backup_vault_lock_configuration")).reasons == [text]
	reported("prod", fix.changed("aws_backup_vault_lock_configuration", {"min_retention_days": 34})).reasons == [text]
	reported("prod", fix.changed("aws_backup_vault_lock_configuration", {"changeable_for_days": null})).reasons == [text]
}

test_prod_stores_have_replicas if {
	count(reported("prod", fix.without("aws_s3_bucket_replication_configuration")).reasons) == 4
	count(reported("prod", fix.changed("aws_s3_bucket_replication_configuration", {"rule": [{"status": "Disabled"}]})).reasons) == 4
}

test_prod_state_is_protected if {
	reported("prod", fix.changed("aws_db_instance", {"protect": false})).reasons == ["aws_db_instance.main holds state and could be destroyed by a change of the program: give it protect"]
	reported("dev", fix.changed("aws_db_instance", {"protect": false})).verdict == "pass"
}
