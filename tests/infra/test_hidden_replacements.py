"""A change that would replace or delete a protected key, and how somebody might hide it: each is a row or a note of the diff.

One small program, and one change of it that tries everything at once.
"""

import functools
from typing import Any

import pytest

from infra.base import Base
from infra.diff import Diff, diff
from infra.graph import Graph, Resource
from infra.synth import synthesise
from infra.table import table
from infra.terraform import Terraform
from tests.infra.edits import told
from tests.peers import need

STACK = "urn:pulumi:dev-ground::ai-infra::"
PROVIDER, KEY = "pulumi:providers:aws", "aws:kms/key:Key"
COMPONENTS = {"one": "ai-infra:test:One", "two": "ai-infra:test:Two"}


def _urn(name: str, kind: str = KEY, within: str = "") -> str:
    return f"{STACK}{f'{within}$' if within else ''}{kind}::{name}"


def _provider(name: str, region: str) -> Resource:
    return Resource(urn=_urn(name, PROVIDER), name=name, type=PROVIDER, custom=True, inputs={"region": region})


def _component(name: str) -> Resource:
    return Resource(urn=_urn(name, COMPONENTS[name]), name=name, type=COMPONENTS[name], custom=False)


def _key(name: str, spec: str = "ECC_NIST_P256", *, provider: str = "main", parent: str | None = None, **options: Any) -> Resource:
    return Resource(
        urn=_urn(name, within=COMPONENTS[parent] if parent else ""),
        name=name,
        type=KEY,
        custom=True,
        provider=_urn(provider, PROVIDER),
        parent=_urn(parent, COMPONENTS[parent]) if parent else None,
        inputs={"customerMasterKeySpec": spec, "keyUsage": "SIGN_VERIFY"},
        **{"protect": True} | options,
    )


def _graph(*resources: Resource, key: str) -> Graph:
    named: dict[str, Any] = {"environment": "dev", "layer": "ground", "project": "ai-infra", "stack": "dev-ground"}
    return Graph(**named, resources=resources, outputs={"key": {"$ref": {"urn": _urn(key), "path": ["arn"]}}})


def _other(kind: str, name: str) -> Resource:
    return Resource(urn=_urn(name, kind), name=name, type=kind, custom=True, inputs={"create": "true"})


COMMAND = "command:local:Command"
AWAY = (_provider("main", "eu-central-1"), _provider("other", "eu-west-1"))
BASE = _graph(
    *AWAY,
    _provider("moves", "eu-west-1"),
    _component("one"),
    _component("two"),
    *(_key(name) for name in ("kept", "renamed", "aliased", "retyped", "bared", "carried", "stolen", "silent", "freed")),
    _key("gone", retain_on_delete=True),
    _key("let-go"),
    _key("abroad", provider="moves"),
    _key("moved", parent="one"),
    _key("shielded", protect=False),
    _other(COMMAND, "was"),
    key="kept",
)
HEAD = _graph(
    *AWAY,
    _provider("moves", "eu-west-3"),
    _component("one"),
    _component("two"),
    _key("kept"),
    _key("renamed-2"),
    _key("aliased-2", "ECC_NIST_P384", aliases=({"urn": _urn("aliased")},)),
    Resource(
        urn=_urn("retyped", "aws:kms/replicaKey:ReplicaKey"),
        name="retyped",
        type="aws:kms/replicaKey:ReplicaKey",
        custom=True,
        provider=_urn("other", PROVIDER),
        inputs={"primaryKeyArn": {"$ref": {"urn": _urn("kept"), "path": ["arn"]}}},
        aliases=({"urn": _urn("retyped")},),
    ),
    _key("bared", "ECC_NIST_P384", protect=False),
    _key("carried", provider="other"),
    _key("stolen"),
    _key("thief", aliases=({"urn": _urn("stolen")},)),
    _key("silent", "ECC_NIST_P384", ignore_changes=("customerMasterKeySpec",)),
    _key("freed-2", protect=False, aliases=({"spec": {"name": "freed"}},)),
    _key("let-go", retain_on_delete=True),
    _key("abroad", provider="moves"),
    _key("moved", parent="two"),
    _key("moved-of-base", parent="two"),
    _key("shielded", "ECC_NIST_P384"),
    _other(COMMAND, "is"),
    key="stolen",
)
ROWS = {
    "renamed": "refused: delete",
    "renamed-2": "create",
    "aliased-2": "refused: replace customer_master_key_spec!",
    "retyped": "refused: delete",
    "bared": "refused: replace customer_master_key_spec!, protect",
    "carried": "refused: replace provider!",
    "thief": "create",
    "silent": "update ignoreChanges",
    "freed-2": "update protect",
    "gone": "refused: forget",
    "let-go": "update retainOnDelete",
    "abroad": "refused: replace provider!",
    "moved-of-base": "create",
    # It is not protected yet.
    "shielded": "replace customer_master_key_spec!, protect",
}


@functools.cache
def _found() -> Diff:
    need("terraform")
    terraform = Terraform()
    return diff(Base.of("main", "c" * 40, BASE, terraform), HEAD, synthesise(HEAD), terraform)


@pytest.mark.parametrize(("name", "said"), ROWS.items(), ids=ROWS)
def test_trick_is_a_row(name: str, said: str) -> None:
    assert [told(row) for row in _found().rows if row.address == f"aws_kms_key.{name}"] == [said]


def test_lookalike_at_the_address_of_what_is_deleted_hides_nothing() -> None:
    assert sorted(told(row) for row in _found().rows if row.address == "aws_kms_key.moved") == ["create", "refused: delete"]


def test_what_stays_as_it_is_has_no_row() -> None:
    named = {*ROWS, "moved"}
    assert {row.address for row in _found().rows} == {f"aws_kms_key.{name}" for name in named} | {"aws_kms_replica_key.retyped"}


def test_row_says_where_it_was_before() -> None:
    moved = {row.address: row.moved_from for row in _found().rows if row.moved_from}
    assert moved == {"aws_kms_key.aliased-2": "aws_kms_key.aliased", "aws_kms_key.freed-2": "aws_kms_key.freed"}


def test_what_no_row_can_say_is_a_note() -> None:
    assert _found().notes == (
        "The provider moves changes: region.",
        "was (command:local:Command), which the AWS provider does not judge, is gone.",
        "is (command:local:Command), which the AWS provider does not judge, is new.",
        "The output key changes: a stack that reads it gets another value.",
    )


def test_rules_are_told_what_the_base_protects() -> None:
    assert {f"aws_kms_key.{name}" for name in ("renamed", "aliased-2", "bared", "moved-of-base-of-base")} <= _found().protected


def test_base_whose_type_the_head_no_longer_knows_is_read_by_its_own_table() -> None:
    need("terraform")
    token = "aws:kms/externalKey:ExternalKey"
    assert token not in table()
    terraform, old = Terraform(), _key("old", protect=False)
    external = Resource(urn=_urn("byok", token), name="byok", type=token, custom=True, provider=_urn("main", PROVIDER), inputs={})
    rows = {**table(), token: type(table()[KEY])("aws_kms_external_key")}
    base = Base.of("main", "c" * 40, _graph(*AWAY, old, external, key="old"), terraform, rows)
    head = _graph(*AWAY, old, key="old")
    found = diff(base, head, synthesise(head), terraform)
    assert [(row.action, row.address) for row in found.rows] == [("delete", "aws_kms_external_key.byok")]
