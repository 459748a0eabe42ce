"""What the facts take from a document and its plan: known values, references, literals, statements of policies."""

import base64
import json

from infra.statements import policy_of, statements
from infra.values import filled, literals, referred


def test_plan_goes_before_program_and_nothing_empty_stays() -> None:
    written = {"name": "old", "kms_key_id": "${aws_kms_key.data.arn}", "size": 5}
    planned: dict[str, object] = {"name": "new", "kms_key_id": None, "encrypted": True, "public": False}
    planned |= {"labels": {}, "groups": [], "note": ""}
    assert filled(written, planned) == {
        "name": "new", "kms_key_id": "${aws_kms_key.data.arn}", "size": 5, "encrypted": True, "public": False,
    }  # fmt: skip


def test_block_written_as_one_is_filled_in_its_list() -> None:
    written = {"encryption_config": {"provider": [{"key_arn": "${aws_kms_key.data.arn}"}], "resources": ["secrets"]}}
    planned = {"encryption_config": [{"provider": [{"key_arn": None}], "resources": ["secrets"]}]}
    provider = {"key_arn": "${aws_kms_key.data.arn}"}
    assert filled(written, planned) == {"encryption_config": [{"provider": [provider], "resources": ["secrets"]}]}


def test_items_of_a_set_are_filled_from_those_they_agree_with() -> None:
    written = {"disk": [{"name": "a", "key": "${aws_kms_key.a.arn}"}, {"name": "b", "key": "${aws_kms_key.b.arn}"}]}
    planned = {"disk": [{"name": "b", "key": None}, {"name": "a", "key": None}]}
    assert filled(written, planned) == {
        "disk": [{"name": "b", "key": "${aws_kms_key.b.arn}"}, {"name": "a", "key": "${aws_kms_key.a.arn}"}]
    }


def test_only_a_whole_reference_refers() -> None:
    assert referred("${aws_s3_bucket.audit.id}") == "aws_s3_bucket.audit"
    assert referred("${aws_iam_role.proxy-1.arn}") == "aws_iam_role.proxy-1"
    others = ("aws_s3_bucket.audit", "${aws_s3_bucket.audit.arn}/*", "${var.password}", None, 7)
    assert [referred(value) for value in others] == [None] * 5


def test_literals_are_all_texts_but_references_and_secrets() -> None:
    script = "#!/bin/sh\nexport DB_PASSWORD=correcthorse\n"
    coded = base64.b64encode(script.encode()).decode()
    written: dict[str, object] = {"name": "x", "key": "${aws_kms_key.a.arn}", "password": "${var.secret_1}", "user_data": coded}
    written["a"] = [{"b": "$${aws:x}/*"}]
    assert list(literals(written)) == [
        ("name", "x"), ("user_data", coded), ("user_data (decoded)", script), ("a.b", "${aws:x}/*"),
    ]  # fmt: skip


def test_statement_has_lists_and_no_case_where_iam_has_none() -> None:
    policy = {
        "Statement": {
            "Sid": "Deny", "Effect": "Deny", "Principal": "*", "Action": "kms:Sign", "Resource": "*",
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::1:role/x"}, "Bool": {"aws:SecureTransport": False}},
        }
    }  # fmt: skip
    assert list(statements(policy, "aws_kms_key.k", "resource", "aws_kms_key.k", [])) == [
        {
            "id": "aws_kms_key.k#Deny", "governs": "aws_kms_key.k", "kind": "resource", "effect": "Deny", "principals": ["*"],
            "actions": ["kms:sign"], "notActions": [], "resources": ["*"], "notResources": [], "holders": [],
            "conditions": [
                {"test": "ArnNotEquals", "key": "aws:principalarn", "values": ["arn:aws:iam::1:role/x"]},
                {"test": "Bool", "key": "aws:securetransport", "values": ["false"]},
            ],
        }
    ]  # fmt: skip


def test_allow_to_all_but_somebody_is_one_to_everybody() -> None:
    def principals(effect: str) -> object:
        policy = {"Statement": [{"Effect": effect, "NotPrincipal": {"AWS": "arn:x"}, "Action": "*", "Resource": "*"}]}
        return next(statements(policy, "a.b", "resource", "a.b", []))["principals"]

    assert (principals("Allow"), principals("Deny")) == (["*"], ["not arn:x"])


def test_statement_without_a_sid_is_known_by_its_place() -> None:
    policy = {"Statement": [{"Effect": "Allow"}, {"Effect": "Allow"}]}
    assert [item["id"] for item in statements(policy, "a.b", "identity", "a.b", [])] == ["a.b#0", "a.b#1"]


def test_text_that_is_no_policy_is_none() -> None:
    assert policy_of(json.dumps({"Statement": []})) == {"Statement": []}
    assert [policy_of(value) for value in ("{}", '{"Statement"', '["Statement"]', None, 7)] == [None] * 5
