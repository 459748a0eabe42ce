"""What each service of ours may do in AWS, as the ground of each environment says it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.graph import Graph, Resource
from infra.render import ENVIRONMENTS
from stacks.namespaces import levels
from tests.infra.graphs import all_layers, ground

SERVICES = {
    "api": ("ai-infra", {"objects"}, {"objects"}, {"platform", "audit"}),
    "predictor": ("models-{}", {"objects"}, set(), set()),
    "signing-proxy": ("ai-infra", set(), set(), {"signing"}),
    "vault": ("vault", set(), set(), set()),
    "alertmanager": ("monitoring", set(), set(), set()),
    "opentelemetry-collector": ("monitoring", set(), set(), set()),
}
"""Role → its namespace, prefixes that it reads and writes, users of the database that it is."""


def _text(value: Any) -> str:
    """A policy with `~` for what only AWS knows."""
    return value if isinstance(value, str) else "".join("~" if isinstance(part, dict) else part for part in value["$join"])


def _named(graph: Graph, kind: str, name: str) -> Resource:
    return next(item for item in graph.of(kind) if item.name == name)


def _statements(graph: Graph, name: str) -> dict[str, dict[str, Any]]:
    document = json.loads(_text(_named(graph, "aws:iam/rolePolicy:RolePolicy", name).inputs["policy"]))
    return {item["Sid"]: item for item in document["Statement"]}


def _ends(statement: dict[str, Any] | None) -> set[str]:
    """Prefixes, or users, that a statement's resources name."""
    named = (statement or {}).get("Resource", [])
    return {text.removesuffix("/*").rsplit("/", 1)[-1] for text in ([named] if isinstance(named, str) else named)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("service", SERVICES)
def test_service_reads_writes_and_connects_where_it_has_to_and_nowhere_else(environment: str, service: str) -> None:
    graph = ground(environment)
    namespace, reads, writes, users = SERVICES[service]
    statements = _statements(graph, service)
    found = [_ends(statements.get(sid)) for sid in ("ReadObjects", "WriteObjects", "Connect")]
    assert found == [reads, writes, users]
    association = _named(graph, "aws:eks/podIdentityAssociation:PodIdentityAssociation", service).inputs
    assert (association["namespace"], association["serviceAccount"]) == (namespace.format(environment), service)
    assert association["namespace"] in levels(environment)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_service_deletes_shortens_a_lock_or_reads_a_secret(environment: str) -> None:
    graph = ground(environment)
    actions = {action for name in SERVICES for item in _statements(graph, name).values() for action in item["Action"]}
    assert actions == {
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GetPublicKey",
        "kms:Sign",
        "rds-db:connect",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:PutObject",
        "s3:PutObjectRetention",
        "sns:Publish",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_service_account_names_the_role_that_admits_it(environment: str) -> None:
    found = {account: role for graph in all_layers(environment)[1:] for account, role in _annotated(graph)}
    assert found == {account: role for account, role in _admitted(ground(environment)) if not account.startswith("kube-system:")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_addons_take_their_roles_by_the_same_two_ways(environment: str) -> None:
    accounts = {account for account, _ in _admitted(ground(environment))}
    assert {item for item in accounts if item.startswith("kube-system:")} == {
        "kube-system:aws-node",
        "kube-system:ebs-csi-controller-sa",
    }


def _admitted(graph: Graph) -> Iterator[tuple[str, str]]:
    """Service accounts that roles admit by IRSA, and under which name the ground tells each role."""
    told = {value["$ref"]["urn"]: name for name, value in graph.outputs["role_arns"].items()}
    for role in graph.of("aws:iam/role:Role"):
        for statement in json.loads(_text(role.inputs["assumeRolePolicy"]))["Statement"]:
            if statement["Action"] == "sts:AssumeRoleWithWebIdentity":
                [account] = [value for key, value in statement["Condition"]["StringEquals"].items() if key.endswith(":sub")]
                yield account.removeprefix("system:serviceaccount:"), told.get(role.urn, "")


def _annotated(graph: Graph) -> Iterator[tuple[str, str]]:
    """The same, as the accounts themselves and the values of charts say it."""
    for item in graph.resources:
        if item.type == "kubernetes:core/v1:ServiceAccount":
            yield from _named_role(item.inputs["metadata"]["namespace"], item.inputs["metadata"])
        elif item.type == "kubernetes:helm.sh/v3:Release":
            values = item.inputs["values"]
            for part in (values, *(part for part in values.values() if isinstance(part, dict))):
                yield from _named_role(item.inputs["namespace"], part.get("serviceAccount", {}))


def _named_role(namespace: str, account: dict[str, Any]) -> Iterator[tuple[str, str]]:
    role = account.get("annotations", {}).get("eks.amazonaws.com/role-arn")
    if role is not None:
        yield f"{namespace}:{account['name']}", role["$ref"]["path"][-1]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_training_jobs_have_no_role(environment: str) -> None:
    associations = ground(environment).of("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert len(associations) > len(SERVICES)
    assert f"training-{environment}" not in {item.inputs["namespace"] for item in associations}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_vault_uses_the_key_that_unseals_it(environment: str) -> None:
    key = _named(ground(environment), "aws:kms/key:Key", "unseal-key").inputs
    uses = [item for item in json.loads(key["policy"])["Statement"] if "kms:Decrypt" in item["Action"]]
    [role] = uses[0]["Condition"]["ArnEquals"]["aws:PrincipalArn"]
    assert [item["Sid"] for item in uses] == ["Unseal"]
    assert role.endswith(f":role/ai-infra-{environment}-vault")
