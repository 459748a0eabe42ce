package sentinelnet.infra.key_material_test

import data.sentinelnet.infra.key_material
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(texts, resources) := r if {
	r := key_material.report with input.environment as "dev" with input.layer as "ground" with input.texts as texts
		with input.resources as resources
		with input.statements as []
}

one(path, text) := [{"resource": "aws_x.y", "path": path, "text": text}]

denied := ["aws_x.y p holds key material or a secret as text: name a secret of Secrets Manager instead"]

test_harmless_texts_pass if {
	reported([], fix.resources) == {"rule": "infra.key-material", "verdict": "pass", "reasons": []}
	every text in ["ai-infra-dev", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:ai-infra-dev-db", "password of the database"] {
		reported(one("p", text), fix.resources).verdict == "pass"
	}
	reported(one("metadata_options.http_tokens", "required"), fix.resources).verdict == "pass"
	reported(one("password", ""), fix.resources).verdict == "pass"
}

test_text_in_a_secret_attribute_is_denied if {
	every path in ["password", "a.master_password", "secret_string", "auth_token", "environment.db_password", "secretkey"] {
		reported(one(path, "x"), fix.resources).verdict == "deny"
	}
}

test_key_material_in_any_attribute_is_denied if {
	pem := concat("", ["-----BEGIN EC PRIVATE", " KEY-----\nMHc"])
	id := concat("", ["AKIA", "ABCDEFGHIJKLMNOP"])
	every text in [pem, id, "export DB_PASSWORD=correcthorse", "{\"token\": \"abcdefgh1234\"}"] {
		reported(one("p", text), fix.resources).reasons == denied
	}
}

test_text_that_is_none_is_denied if {
	reported([{"resource": "aws_x.y", "path": "p", "text": 7}], fix.resources).reasons == denied
}

test_resource_that_keeps_a_secret_in_the_state_is_denied if {
	r := reported([], fix.added("aws_iam_access_key", {"address": "aws_iam_access_key.ci"}))
	r.reasons == ["aws_iam_access_key.ci keeps a secret in the state: let the key system or Secrets Manager make it"]
}

test_texts_not_read_are_denied if {
	r := key_material.report with input.environment as "dev" with input.layer as "ground" with input.resources as fix.resources with input.statements as []
	r.verdict == "deny"
}
