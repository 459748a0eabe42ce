"""`infra check` on the real environments: each is clean, and each broken copy is refused by the rule that it breaks."""

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.check import by_checkov, by_rules
from infra.checkov import failures
from infra.facts import Change, Stack, facts
from infra.graph import Graph, Resource
from infra.render import config_file, render
from infra.stack import stack_of
from infra.written import exceptions, skips
from services.core.errors import BadInput
from tests.infra.graphs import ground
from tests.peers import ROOT, need
from tests.sentinelnet import BUNDLE

NOW = int(time.time())
ENVIRONMENTS = ["dev", "staging", "prod"]


@functools.cache
def _stack(environment: str) -> Stack:
    return _planned(ground(environment))


def _planned(graph: Graph) -> Stack:
    from infra.synth import synthesise
    from infra.terraform import Terraform

    need("terraform")
    document = synthesise(graph)
    return stack_of(graph, document, Terraform().plan(document))


def _refused(stack: Stack, change: Change | None = None) -> set[tuple[str, str]]:
    noted = [item.to_fact() for item in exceptions(ROOT / "stacks" / "exceptions.yaml", stack.name)]
    return {(item.rule, item.resource) for item in by_rules(BUNDLE, facts(stack, NOW, noted, change))}


def _first(stack: Stack, kind: str, holds: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    planned = stack.plan["planned_values"]["root_module"]["resources"]
    return next(item for item in planned if item["type"] == kind and holds(item["values"]))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment_keeps_every_rule(environment: str) -> None:
    assert _refused(_stack(environment)) == set()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment_fails_no_check_of_checkov_but_those_with_a_reason(environment: str) -> None:
    stack = _stack(environment)
    assert by_checkov(failures(need("checkov"), [stack.plan]), skips(ROOT / "infra" / "checkov-skips.yaml", stack.name)) == []


def test_environment_whose_data_keys_are_in_a_cloudhsm_store_keeps_every_rule() -> None:
    text = (ROOT / config_file("prod")).read_text(encoding="utf-8")
    in_hsm = text.replace("cloudhsm_key_store_id: null", "cloudhsm_key_store_id: cks-0123456789abcdef0")
    assert in_hsm != text
    assert _refused(_planned(render(ROOT, "prod", config_text=in_hsm))) == set()


BROKEN = [
    ("infra.signing-keys", "aws_kms_key", {"deletion_window_in_days": 7}),
    ("infra.key-material", "aws_db_instance", {"password": "correct horse battery"}),
    ("infra.locked-buckets", "aws_s3_bucket_versioning", {"versioning_configuration": [{"status": "Suspended"}]}),
    ("infra.cluster", "aws_eks_cluster", {"vpc_config": [{"endpoint_private_access": True, "endpoint_public_access": True}]}),
    ("infra.encryption", "aws_db_instance", {"storage_encrypted": False}),
    ("infra.recovery", "aws_db_instance", {"multi_az": False}),
    ("infra.tags", "aws_vpc", {"tags_all": {"team": "ml"}}),
    ("infra.network", "aws_vpc_security_group_ingress_rule", {"cidr_ipv4": "0.0.0.0/0"}),
]


@pytest.mark.parametrize(("rule", "kind", "values"), BROKEN, ids=[rule for rule, *_ in BROKEN])
def test_broken_copy_of_prod_is_refused_by_the_rule(rule: str, kind: str, values: dict[str, Any]) -> None:
    stack = copy.deepcopy(_stack("prod"))
    signing = rule == "infra.signing-keys"
    item = _first(stack, kind, lambda found: not signing or found["key_usage"] == "SIGN_VERIFY")
    item["values"].update(values)
    stack.document["resource"][kind][item["name"]].update(values)
    assert rule in {name for name, _ in _refused(stack)}


def test_secret_in_an_output_or_in_a_provider_is_refused() -> None:
    graph, stack = ground("dev"), _stack("dev")
    vault = Resource(urn="urn:v", name="v", type="pulumi:providers:vault", custom=True, inputs={"token": "x"})
    for other in (replace(graph, outputs={"password": "x"}), replace(graph, resources=(*graph.resources, vault))):
        assert {rule for rule, _ in _refused(stack_of(other, stack.document, stack.plan))} == {"infra.key-material"}


@pytest.mark.parametrize("kind", ["kubernetes:core/v1:Secret", "vault:kv/secretV2:SecretV2", "tls:index/privateKey:PrivateKey"])
def test_ground_with_something_that_is_not_of_aws_is_refused_though_its_secret_is_marked(kind: str) -> None:
    graph, stack = ground("dev"), _stack("dev")
    values = {"data": {"$secret": {"password": "x"}}}
    other = Resource(urn="urn:s", name="mine", type=kind, custom=True, inputs=values)
    with pytest.raises(BadInput, match=f"dev-ground has {kind} mine, which is not of AWS: .* make it in a later layer"):
        stack_of(replace(graph, resources=(*graph.resources, other)), stack.document, stack.plan)


def test_signing_key_without_protection_is_refused() -> None:
    stack = _stack("dev")
    assert {rule for rule, _ in _refused(replace(stack, protected=frozenset()))} == {"infra.signing-keys"}


@pytest.mark.parametrize("kind", ["aws_s3_bucket", "aws_efs_file_system", "aws_cloudwatch_log_group"])
def test_destroyed_store_is_refused(kind: str) -> None:
    stack = _stack("dev")
    item = _first(stack, kind)
    row = {"address": item["address"], "mode": "managed", "type": kind}
    change = Change(frozenset(), {"resource_changes": [row | {"change": {"actions": ["delete"], "before": {}, "after": None}}]})
    assert ("infra.destruction", item["address"]) in _refused(stack, change)
