package sentinelnet.infra.signing_keys_test

import data.sentinelnet.infra.signing_keys
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources, statements) := r if {
	r := signing_keys.report with input.environment as "prod" with input.layer as "ground" with input.account as "111122223333"
		with input.resources as resources
		with input.statements as statements
}

on(key, patch) := object.union(fix.resources, {"aws_kms_key": [object.union(k, object.get({key: patch}, k.address, {})) | some k in fix.resources.aws_kms_key]})

test_keys_that_the_proxy_alone_uses_pass if {
	reported(fix.resources, fix.statements) == {"rule": "infra.signing-keys", "verdict": "pass", "reasons": []}
}

test_layer_without_keys_passes_and_the_ground_does_not if {
	r := signing_keys.report with input.environment as "prod" with input.layer as "platform"
		with input.resources as fix.without("aws_kms_key")
		with input.statements as []
	r.verdict == "pass"
	reported(fix.without("aws_kms_key"), []).reasons == ["the ground has fewer signing keys than purposes: manifests and the audit log have one each"]
}

test_key_of_another_kind_is_denied if {
	reported(on("aws_kms_key.audit", {"customer_master_key_spec": "RSA_2048"}), fix.statements).reasons == ["aws_kms_key.audit is not ECC_NIST_P256: an attestation's key is"]
}

test_key_that_a_change_could_destroy_is_denied if {
	reported(on("aws_kms_key.audit", {"protect": false}), fix.statements).reasons == ["aws_kms_key.audit could be destroyed by a change of the program: give it protect"]
	reported(fix.changed("aws_kms_replica_key", {"protect": false}), fix.statements).reasons == ["aws_kms_replica_key.manifest could be destroyed by a change of the program: give it protect"]
}

test_short_deletion_window_is_denied if {
	text := "aws_kms_key.audit could be gone within days: raise its deletion window to the environment's floor"
	reported(on("aws_kms_key.audit", {"deletion_window_in_days": 29}), fix.statements).reasons == [text]
	reported(on("aws_kms_key.audit", {"deletion_window_in_days": "30"}), fix.statements).reasons == [text]
}

test_another_signer_in_the_key_policy_is_denied if {
	text := "aws_kms_key.audit lets somebody sign who is not the signing proxy, or nobody: allow kms:Sign to its role alone"
	root := ["arn:aws:iam::111122223333:root"]
	reported(fix.resources, fix.restated("aws_kms_key.audit#Sign", {"principals": root})).reasons == [text]
	every actions in [["kms:*"], ["*"], ["kms:s*"], ["k?s:sign"], ["kms:describekey", "kms:??gn"]] {
		added := array.concat(fix.statements, [object.union(fix.statement, {"kind": "resource", "governs": "aws_kms_key.audit", "actions": actions, "principals": root})])
		reported(fix.resources, added).reasons == [text]
	}
}

test_key_that_nobody_may_use_is_denied if {
	gone := [s | some s in fix.statements; s.id != "aws_kms_key.audit#Sign"]
	reported(fix.resources, gone).verdict == "deny"
}

test_missing_or_narrowed_deny_is_denied if {
	text := "aws_kms_key.audit does not deny kms:Sign to everybody but the signing proxy: add the Deny on aws:PrincipalArn"
	id := "aws_kms_key.audit#NobodyElse"
	condition := {"test": "ArnNotEquals", "key": "aws:principalarn", "values": [fix.proxy]}
	more := [condition, {"test": "Bool", "key": "aws:multifactorauthpresent", "values": ["true"]}]
	other := [object.union(condition, {"values": [fix.proxy, "arn:aws:iam::111122223333:role/admin"]})]
	every patch in [{"effect": "Allow", "actions": []}, {"conditions": []}, {"conditions": more}, {"conditions": other}, {"principals": ["arn:aws:iam::111122223333:root"]}, {"actions": ["kms:decrypt"]}] {
		reported(fix.resources, fix.restated(id, patch)).reasons == [text]
	}
}

test_identity_policy_that_lets_another_role_sign_is_denied if {
	text := "aws_iam_policy.p#S lets another role than the signing proxy's sign"
	reported(fix.resources, array.concat(fix.statements, [object.union(fix.statement, {"actions": ["kms:sign"], "holders": ["arn:aws:iam::111122223333:role/x"]})])).reasons == [text]
	reported(fix.resources, array.concat(fix.statements, [object.union(fix.statement, {"actions": [], "notActions": ["s3:*"]})])).reasons == [text]
}
