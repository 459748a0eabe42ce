"""The ground of each environment as one graph: how the components are joined, what is protected, what the next layer gets."""

import json
from typing import Any

import pytest

from infra.graph import Graph
from tests.infra.graphs import ground

ENVIRONMENTS = ["dev", "staging", "prod"]


def _of(graph: Graph, kind: str) -> list[Any]:
    return [item for item in graph.resources if item.type == kind]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_role_has_the_boundary_without_which_the_deploy_role_may_not_make_it(environment: str) -> None:
    roles = _of(ground(environment), "aws:iam/role:Role")
    assert len(roles) > 5
    ends = f":policy/ai-infra-ci-boundary-{environment}"
    assert [item.name for item in roles if not str(item.inputs.get("permissionsBoundary")).endswith(ends)] == []


def test_prod_protects_its_database_its_stores_and_every_signing_key() -> None:
    graph = ground("prod")
    signing = [item for item in _of(graph, "aws:kms/key:Key") if item.inputs.get("keyUsage") == "SIGN_VERIFY"]
    assert len(signing) >= 2
    kept = [*signing, *_of(graph, "aws:rds/instance:Instance"), *_of(graph, "aws:s3/bucketV2:BucketV2")]
    assert [item.name for item in kept if not item.protect] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_next_layer_is_told_of_cluster_stores_keys_and_database(environment: str) -> None:
    outputs = ground(environment).outputs
    wanted = {"cluster_name", "cluster_endpoint", "role_arns", "store_names", "signing_key_arns", "database_endpoint"}
    assert wanted <= set(outputs)


def test_only_prod_has_a_second_region() -> None:
    regions = {name: {item.inputs["region"] for item in _of(ground(name), "pulumi:providers:aws")} for name in ENVIRONMENTS}
    assert {name: len(found) for name, found in regions.items()} == {"dev": 1, "staging": 1, "prod": 2}


def _key(environment: str, name: str) -> dict[str, dict[str, Any]]:
    """Statements of its policy, by Sid."""
    (key,) = [item for item in _of(ground(environment), "aws:kms/key:Key") if item.name == name]
    return {item["Sid"]: item for item in json.loads(key.inputs["policy"])["Statement"]}


def test_rds_may_make_the_secret_of_the_master_password_and_keep_a_grant_for_it() -> None:
    key = _key("dev", "credentials-key")
    through = {"kms:ViaService": ["rds.eu-central-1.amazonaws.com", "secretsmanager.eu-central-1.amazonaws.com"]}
    assert [key[sid]["Condition"]["StringEquals"] for sid in ("Use", "Grant")] == [through, through]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_backup_may_retire_the_grant_by_which_it_tries_the_vaults_key(environment: str) -> None:
    retire = _key(environment, "vault-key")["Retire"]
    assert "backup.eu-central-1.amazonaws.com" in retire["Condition"]["StringEquals"]["kms:ViaService"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_keys_are_ended_by_who_destroys_the_environment(environment: str) -> None:
    """Of dev everybody who deploys it; of the others two people."""
    (account,) = {item.inputs["allowedAccountIds"] for item in _of(ground(environment), "pulumi:providers:aws")}
    roles = {"dev": {"platform-admin", "ai-infra-dev-deploy", "break-glass"}}.get(environment, {"break-glass"})
    wanted = {f"arn:aws:iam::{json.loads(account)[0]}:{role}" for role in {"root", *(f"role/{name}" for name in roles)}}
    for name in ("artifacts-key", "database-key", "vault-key"):
        key = _key(environment, name)
        assert set(key["End"]["Condition"]["ArnEquals"]["aws:PrincipalArn"]) == wanted
        assert set(key["NobodyElseEndsIt"]["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]) == wanted
