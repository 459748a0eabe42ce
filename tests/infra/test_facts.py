"""The facts of the infra rules: one form for what the program says and what the plan knows."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.facts import Change, Stack, facts
from services.core.errors import BadInput

BUCKET = "ai-infra-dev-audit"
PROXY = "arn:aws:iam::111122223333:role/ai-infra-dev-signing-proxy"


def _policy(**statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "S", "Effect": "Allow"} | statement]})


RESOURCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "aws_s3_bucket.audit": ({"bucket": BUCKET}, {"bucket": BUCKET, "tags": None, "tags_all": {"team": "ml"}}),
    "aws_s3_bucket_versioning.audit": ({"bucket": "${aws_s3_bucket.audit.id}"}, {"bucket": None}),
    "aws_s3_bucket_public_access_block.audit": ({"bucket": BUCKET}, {"bucket": BUCKET}),
    "aws_s3_bucket_policy.audit": (
        {"bucket": "${aws_s3_bucket.audit.id}", "policy": _policy(Principal="*", Action="s3:*", Resource="arn:b")},
        {},
    ),
    "aws_iam_role.proxy": (
        {
            "name": "ai-infra-dev-signing-proxy",
            "assume_role_policy": _policy(Principal={"Service": "pods.eks.amazonaws.com"}, Action="sts:AssumeRole"),
            "inline_policy": [{"policy": _policy(Action="kms:Verify", Resource="arn:k")}],
        },
        {"name": "ai-infra-dev-signing-proxy", "path": "/", "tags_all": None},
    ),
    "aws_iam_role_policy.sign": (
        {"role": "${aws_iam_role.proxy.id}", "policy": _policy(Action="kms:Sign", Resource="${aws_kms_key.manifest.arn}")},
        {"role": None},
    ),
    "aws_iam_policy.read": ({"policy": _policy(Action="s3:GetObject", Resource="arn:b")}, {}),
    "aws_iam_role_policy_attachment.read": (
        {"role": "ai-infra-dev-signing-proxy", "policy_arn": "${aws_iam_policy.read.arn}"},
        {"role": "ai-infra-dev-signing-proxy"},
    ),
    "aws_kms_key.manifest": (
        {"policy": _policy(Principal={"AWS": "${aws_iam_role.proxy.arn}"}, Action="kms:Sign", Resource="*")},
        {},
    ),
    "aws_db_instance.main": ({"password": "${var.secret_1}", "identifier": "ai-infra-dev"}, {"identifier": "ai-infra-dev"}),
}
"""Address → what the program says, and what the plan knows."""


def _stack(**changes: Any) -> Stack:
    document: dict[str, Any] = {"resource": {}}
    for address, (written, _) in RESOURCES.items():
        kind, name = address.split(".")
        document["resource"].setdefault(kind, {})[name] = written
    planned = [{"address": address, "mode": "managed", "values": values} for address, (_, values) in RESOURCES.items()]
    plan = {"planned_values": {"root_module": {"resources": planned}}}
    stack = Stack("dev", "ground", "111122223333", frozenset({"aws_kms_key.manifest"}), document, plan)
    return replace(stack, **changes)


def _resource(address: str) -> dict[str, Any]:
    group = facts(_stack(), 1000)["resources"][address.split(".")[0]]
    return next(fact for fact in group if fact["address"] == address)


def _statements() -> dict[str, dict[str, Any]]:
    return {statement["id"]: statement for statement in facts(_stack(), 1000)["statements"]}


def _row(address: str, *actions: str) -> dict[str, Any]:
    change = {"actions": list(actions), "before": {"days": 2}, "after": {"days": 1}}
    return {"address": address, "mode": "managed", "type": address.split(".")[0], "change": change}


def test_resource_says_whether_it_is_protected_and_which_tags_aws_gets() -> None:
    assert _resource("aws_kms_key.manifest")["protect"] is True
    bucket = {"address": "aws_s3_bucket.audit", "protect": False, "bucket": "ai-infra-dev-audit", "tags": {"team": "ml"}}
    assert _resource("aws_s3_bucket.audit") == bucket
    assert _resource("aws_iam_role.proxy")["tags"] == {}
    assert "tags" not in _resource("aws_s3_bucket_versioning.audit")


def test_target_is_found_by_reference_and_by_name() -> None:
    assert _resource("aws_s3_bucket_versioning.audit")["target"] == "aws_s3_bucket.audit"
    assert _resource("aws_s3_bucket_public_access_block.audit")["target"] == "aws_s3_bucket.audit"


def test_statement_knows_what_it_governs_and_who_holds_it() -> None:
    found = {name: (item["kind"], item["governs"], item["holders"]) for name, item in _statements().items()}
    assert found == {
        "aws_s3_bucket_policy.audit#S": ("resource", "aws_s3_bucket.audit", []),
        "aws_iam_role.proxy.assume_role_policy#S": ("trust", "aws_iam_role.proxy", [PROXY]),
        "aws_iam_role.proxy.inline_policy.policy#S": ("identity", "aws_iam_role.proxy", [PROXY]),
        "aws_iam_role_policy.sign#S": ("identity", "aws_iam_role_policy.sign", [PROXY]),
        "aws_iam_policy.read#S": ("identity", "aws_iam_policy.read", [PROXY]),
        "aws_kms_key.manifest#S": ("resource", "aws_kms_key.manifest", []),
    }


def test_role_of_the_program_is_named_by_its_arn() -> None:
    assert _statements()["aws_kms_key.manifest#S"]["principals"] == [PROXY]


def test_policies_are_statements_and_no_attributes() -> None:
    assert "policy" not in _resource("aws_s3_bucket_policy.audit")


def test_texts_hold_literals_and_no_secret() -> None:
    texts = {(item["resource"], item["path"]) for item in facts(_stack(), 1000)["texts"]}
    assert ("aws_db_instance.main", "identifier") in texts
    assert ("aws_db_instance.main", "password") not in texts


def test_texts_hold_what_the_document_leaves_out_without_its_secrets() -> None:
    beside = {
        "outputs": {"key": "PEM", "arn": {"$ref": {"urn": "u", "path": ["arn"]}}},
        "kubernetes:core/v1:Secret s": {"stringData": {"password": "correct horse", "pin": {"$secret": "1234"}}},
    }
    texts = [item for item in facts(_stack(beside=beside), 1000)["texts"] if item["resource"] in beside]
    assert texts == [
        {"resource": "outputs", "path": "key", "text": "PEM"},
        {"resource": "kubernetes:core/v1:Secret s", "path": "stringdata.password", "text": "correct horse"},
    ]


def test_changes_are_what_is_neither_new_nor_the_same() -> None:
    rows = [_row("aws_s3_bucket.audit", "no-op"), _row("aws_vpc.main", "create"), _row("aws_db_instance.main", "delete", "create")]
    change = Change(frozenset({"aws_db_instance.main"}), {"resource_changes": rows})
    assert facts(_stack(), 1000, change=change)["changes"] == [
        {
            "address": "aws_db_instance.main", "type": "aws_db_instance", "actions": ["delete", "create"], "protect": True,
            "before": {"days": 2}, "after": {"days": 1},
        }
    ]  # fmt: skip
    assert facts(_stack(), 1000)["changes"] is None


def test_protection_that_the_change_takes_off_still_counts() -> None:
    def told(*protected: str) -> bool:
        change = Change(frozenset(protected), {"resource_changes": [_row("aws_kms_key.manifest", "delete")]})
        (row,) = facts(_stack(protected=frozenset()), 1000, change=change)["changes"]
        return bool(row["protect"])

    assert (told("aws_kms_key.manifest"), told()) == (True, False)


def test_plan_of_another_program_is_refused() -> None:
    other: dict[str, object] = {"planned_values": {"root_module": {"resources": []}}}
    with pytest.raises(BadInput, match="plan it again"):
        facts(_stack(plan=other), 1000)
