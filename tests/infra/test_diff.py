"""Each edit of an environment gives exactly the rows that it should, and no other."""

import functools
import time

import pytest

from infra.base import Base
from infra.check import by_rules
from infra.diff import Diff, diff
from infra.facts import Change, facts
from infra.graph import Graph
from infra.render import render
from infra.stack import stack_of
from infra.synth import synthesise
from infra.terraform import Terraform
from tests.infra.edits import BASE, BATCHES, Edit, configured, matches, patched, told
from tests.peers import ROOT, need
from tests.sentinelnet import BUNDLE

EDITS = [(batch, edit) for batch, (_, edits) in BATCHES.items() for edit in edits]


@functools.cache
def _base(environment: str) -> Base:
    need("terraform")
    return Base.of("main", "c" * 40, render(ROOT, environment, config_text=configured(environment, BASE[environment])), Terraform())


@functools.cache
def _changed(batch: str) -> tuple[Graph, Diff]:
    environment, edits = BATCHES[batch]
    base, values = _base(environment), dict(BASE[environment])
    for edit in edits:
        values |= edit.values
    with patched(edits) as folder:
        head = render(folder, environment, config_text=configured(environment, values))
    return head, diff(base, head, synthesise(head), Terraform())


def _rows(batch: str) -> dict[str, str]:
    return {row.address: told(row) for row in _changed(batch)[1].rows}


@pytest.mark.parametrize(("batch", "edit"), EDITS, ids=[edit.name for _, edit in EDITS])
def test_edit_gives_exactly_its_rows(batch: str, edit: Edit) -> None:
    rows, wrong, idle = _rows(batch), {}, []
    for pattern, said in edit.rows.items():
        found = {address: text for address, text in rows.items() if matches(pattern, address)}
        wrong |= {address: text for address, text in found.items() if not matches(said, text)}
        idle += [] if found else [pattern]
    assert (wrong, idle) == ({}, [])


@pytest.mark.parametrize("batch", BATCHES)
def test_nothing_changes_that_no_edit_is_about(batch: str) -> None:
    patterns = [pattern for edit in BATCHES[batch][1] for pattern in edit.rows]
    assert [address for address in _rows(batch) if not any(matches(pattern, address) for pattern in patterns)] == []


def test_tag_goes_to_everything_that_takes_tags() -> None:
    _, found = _changed("tags")
    planned = found.plan["planned_values"]["root_module"]["resources"]
    assert _rows("tags").keys() == {item["address"] for item in planned if "tags_all" in item["values"]}


def test_what_signs_for_verifiers_is_told_as_an_output() -> None:
    assert "The output signing_key_arns changes: a stack that reads it gets another value." in _changed("renamed")[1].notes


@pytest.mark.parametrize(
    ("batch", "rule", "address"),
    [
        ("less", "infra.locked-buckets", "aws_s3_bucket_object_lock_configuration.audit"),
        ("renamed", "infra.destruction", "aws_kms_key.manifest-1"),
        ("unprotected", "infra.destruction", "aws_kms_key.manifest-1"),
        ("lasting", "infra.destruction", "aws_s3_bucket.trail"),
    ],
)
def test_rule_refuses_the_change(batch: str, rule: str, address: str) -> None:
    head, found = _changed(batch)
    document = synthesise(head)
    stack = stack_of(head, document, Terraform().plan(document))
    given = facts(stack, int(time.time()), change=Change(found.protected, found.plan))
    assert (rule, address) in {(item.rule, item.resource) for item in by_rules(BUNDLE, given)}
