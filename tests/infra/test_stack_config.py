"""StackConfig: the environments as they stand are taken, and dangerous copies are refused with the remedy."""

import copy
import ipaddress
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.render import LAYERS
from stacks.config import ConfigRefused, GroundStack, StackConfig, parse
from tests.peers import ROOT

ENVIRONMENTS = ("dev", "staging", "prod")


def values(environment: str, layer: str = "ground") -> dict[str, Any]:
    path = Path(ROOT) / "stacks" / environment / f"Pulumi.{environment}-{layer}.yaml"
    read: dict[str, Any] = yaml.safe_load(path.read_text())["config"]["ai-infra:stack"]
    return read


def altered(environment: str, path: str, value: Any, layer: str = "ground") -> dict[str, Any]:
    """A copy with one value, at a dotted path, that is another."""
    changed = copy.deepcopy(values(environment, layer))
    *outer, last = path.split(".")
    reduce(lambda part, key: part[key], outer, changed)[last] = value
    return changed


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment_is_taken_and_tagged(environment: str) -> None:
    tags = parse(f"{environment}-ground", values(environment)).all_tags
    assert tags.keys() == {"team", "environment", "cost_centre"}
    assert tags["environment"] == environment


def test_environments_share_no_account_and_no_addresses() -> None:
    found = [parse(f"{environment}-ground", values(environment)) for environment in ENVIRONMENTS]
    assert len({config.account for config in found}) == 3
    blocks = [ipaddress.IPv4Network(config.ground.network.cidr) for config in found if isinstance(config, GroundStack)]
    assert not [pair for pair in combinations(blocks, 2) if pair[0].overlaps(pair[1])]


ELSEWHERE = "arn:aws:iam::999999999999:role/someone"
REFUSED = [
    ("dev", "account", "1111", "account"),
    ("dev", "account", 111122223333, "valid string"),
    ("dev", "environment", "test", "'dev', 'staging' or 'prod'"),
    ("dev", "public", True, "Extra inputs"),
    ("dev", "zones", ["eu-central-1a"], "at least 3"),
    ("dev", "zones", ["eu-central-1a"] * 3, "one zone is no availability"),
    ("dev", "zones", ["eu-west-1a", "eu-west-1b", "eu-west-1c"], "zones must be of eu-central-1"),
    ("dev", "replica_region", "eu-central-1", "another one than region"),
    ("dev", "tags.team", "", "tags.team"),
    ("dev", "ground.network.cidr", "8.8.0.0/16", "is not private"),
    ("dev", "ground.network.cidr", "10.10.0.0/24", "must be /16 to /18"),
    ("dev", "ground.network.cidr", "10.0.0.0/8", "must be /16 to /18"),
    ("dev", "ground.network.cidr", "172.20.0.0/16", "services of EKS"),
    ("dev", "ground.network.cidr", "10.10.1.0/16", "is no IPv4 block"),
    ("dev", "ground.network.cidr", "0.0.0.0/0", "is not private"),
    ("dev", "ground.network.ingress", ["0.0.0.0/0"], "Extra inputs"),
    ("dev", "ground.network.flow_log_days", 31, "take the next higher"),
    ("dev", "ground.cluster.public_endpoint", True, "Extra inputs"),
    ("dev", "ground.cluster.admin_role_arns", ["*"], "admin_role_arns"),
    ("dev", "ground.cluster.admin_role_arns", [ELSEWHERE], "roles must be of account"),
    ("dev", "ground.keys.admin_role_arns", [], "at least 1"),
    ("dev", "ground.keys.admin_role_arns", [ELSEWHERE], "roles must be of account"),
    ("dev", "ground.keys.break_glass_role_arn", "arn:aws:iam::111122223333:role/ai-infra-dev-deploy", "none of admin_role_arns"),
    ("dev", "ground.keys.deletion_window_days", 6, "greater than or equal to 7"),
    ("staging", "ground.keys.deletion_window_days", 7, "must be 14 or more"),
    ("prod", "ground.keys.deletion_window_days", 14, "must be 30 or more"),
    ("dev", "ground.keys.signing.manifest.current", 2, "generations 1"),
    ("dev", "ground.keys.signing.audit.retired", 1, "retired 1 < current 1"),
    ("dev", "ground.keys.cloudhsm_key_store_id", "cluster-1", "cloudhsm_key_store_id"),
    ("dev", "ground.stores.retention_days.audit", 0, "greater than or equal to 1"),
    ("staging", "ground.stores.retention_days.audit", 7, "staging keeps 30 days or more"),
    ("prod", "ground.stores.retention_days.artifacts", 365, "prod keeps 2557 days or more"),
    ("prod", "replica_region", None, "must be named in prod"),
    ("prod", "ground.network.nat", "one", "must be per-zone in prod"),
    ("prod", "ground.state.database.lasting", False, "database.lasting must be true"),
    ("prod", "ground.state.database.backup_days", 7, "database.backup_days must be 35"),
    ("staging", "ground.state.database.backup_days", 1, "staging keeps 7 days or more"),
    ("dev", "ground.state.database.version", "17.5", "database.version"),
    ("dev", "ground.state.backup.replica", True, "wants a replica_region"),
]


@pytest.mark.parametrize(
    ("environment", "path", "value", "remedy"), REFUSED, ids=[f"{env}-{path}-{value}" for env, path, value, _ in REFUSED]
)
def test_dangerous_value_is_refused_with_the_remedy(environment: str, path: str, value: Any, remedy: str) -> None:
    stack = f"{environment}-ground"
    parse(stack, values(environment))
    with pytest.raises(ConfigRefused, match=remedy):
        parse(stack, altered(environment, path, value))


LATER: list[tuple[str, str, str, Any, str]] = [
    ("dev", "platform", "charts.vault", "latest", "charts.vault"),
    ("dev", "platform", "charts", {"vault": "0.31.0"}, "pin a version of each of cert-manager"),
    ("dev", "platform", "domain", "localhost", "domain"),
    ("dev", "platform", "vault.replicas", 2, "1, 3 or 5"),
    ("prod", "platform", "replicas", 1, "replicas must be 2 or more in prod"),
    ("prod", "platform", "vault.replicas", 1, "takes the secrets along"),
    ("prod", "platform", "metrics.replicas", 1, "no canary is judged without metrics"),
    ("dev", "apps", "image", "ghcr.io/example/ai-infra:latest", "give REGISTRY/NAME@sha256:DIGEST"),
    ("dev", "apps", "key_versions", {"builder": 1}, "give one of each of builder, evaluator, sentinelnet"),
    ("dev", "apps", "witnesses", {"urls": {}, "blocks": ["198.51.100.0/24"]}, "give both urls and blocks"),
    ("dev", "apps", "witnesses", {"urls": {"w": "https://w.example"}, "blocks": ["0.0.0.0/0"]}, "more than a witness needs"),
    ("dev", "apps", "witnesses", {"urls": {"w": "https://w.example"}, "blocks": ["198.51.100.0/24"]}, "reached at port 8450"),
    ("dev", "apps", "witnesses", {"urls": {"w": "https://w.example:9443"}, "blocks": ["198.51.100.0/24"]}, "reached at port 8450"),
    ("dev", "apps", "witnesses", {"urls": {"w": "https://w.example"}, "blocks": ["everywhere"]}, "Expected 4 octets"),
    ("prod", "apps", "witnesses", {"urls": {}, "blocks": []}, "witnesses must be named in prod"),
    ("staging", "apps", "retention_days", 29, "staging keeps 30 days or more"),
    ("dev", "apps", "vault_address", "http://localhost:8200", "vault_address"),
]


@pytest.mark.parametrize(
    ("environment", "layer", "path", "value", "remedy"), LATER, ids=[f"{e}-{p}-{v}" for e, _, p, v, _ in LATER]
)
def test_dangerous_value_of_a_later_layer_is_refused_with_the_remedy(
    environment: str, layer: str, path: str, value: Any, remedy: str
) -> None:
    stack = f"{environment}-{layer}"
    parse(stack, values(environment, layer))
    with pytest.raises(ConfigRefused, match=remedy):
        parse(stack, altered(environment, f"{layer}.{path}", value, layer))


def test_a_refusal_names_each_place_and_says_it_in_our_words() -> None:
    wrong = altered("dev", "ground.network.cidr", "8.8.0.0/16") | {"account": "1111"}
    with pytest.raises(ConfigRefused) as refused:
        parse("dev-ground", wrong)
    first, account, cidr = str(refused.value).split("\n")
    assert first == "the configuration of dev-ground is refused:"
    assert account.startswith("  account: ")
    assert cidr.startswith("  ground.network.cidr: 8.8.0.0/16 is not private: take a block of")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_layers_of_an_environment_agree(environment: str) -> None:
    given = {layer: values(environment, layer) for layer in LAYERS}
    shared = [{key: value[key] for key in StackConfig.model_fields if key != "layer"} for value in given.values()]
    assert shared == [shared[0]] * len(LAYERS)
    assert given["apps"]["apps"]["retention_days"] == given["ground"]["ground"]["stores"]["retention_days"]["artifacts"]
    capacity = given["platform"]["platform"]["capacity"]
    assert given["apps"]["apps"]["queue"] in [team["name"] for team in capacity["teams"]]
    assert given["apps"]["apps"]["priority"] in capacity["priorities"]


def test_layer_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigRefused, match="'ground', 'platform', 'apps'"):
        parse("dev-attic", values("dev") | {"layer": "attic"})


def test_pool_in_a_zone_without_a_subnet_is_refused() -> None:
    changed = values("prod")
    changed["ground"]["cluster"]["gpu_pools"][2]["zone"] = "eu-central-1d"
    with pytest.raises(ConfigRefused, match="zones of GPU pools must be among"):
        parse("prod-ground", changed)


def test_configuration_of_another_stack_is_refused() -> None:
    with pytest.raises(ConfigRefused, match=r"pass stacks/<env>/Pulumi\.prod-ground\.yaml"):
        parse("prod-ground", values("dev"))


def test_refusal_says_all_that_is_wrong() -> None:
    changed = altered("dev", "account", "1")
    changed["region"] = "moon"
    with pytest.raises(ConfigRefused) as refused:
        parse("dev-ground", changed)
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == ["account", "region"]
