"""What tests judge on real servers (rights, Vault, network, certificates; tests/infra/apps.py) is what dev's program makes."""

from collections.abc import Callable
from typing import Any

import pytest

from components.apps.certificates import Certificates
from components.apps.network_policies import NetworkPolicies, NetworkPoliciesArgs
from components.apps.rbac import Rbac
from components.apps.vault_access import VaultAccess
from tests.infra.apps import CERTIFICATES, PLACES, RBAC, VAULT
from tests.infra.graphs import all_layers
from tests.infra.recorded import Graph, recorded

TESTED: dict[str, tuple[Callable[[], Any], str]] = {
    "rights": (lambda: Rbac("rbac", RBAC), "rbac.authorization.k8s.io/"),
    "vault": (lambda: VaultAccess("vault-access", VAULT), "vault:"),
    "network": (lambda: NetworkPolicies("network", NetworkPoliciesArgs(places=PLACES)), "/v1:NetworkPolicy"),
    "certificates": (lambda: Certificates("certificates", CERTIFICATES), ":Certificate"),
}
"""What → the component that tests judge, and what the types of all such resources of the program hold."""


def program(types: str) -> dict[tuple[str, str], Any]:
    apps = all_layers("dev")[2]
    return {(item.type.rsplit(":", 1)[-1], item.name): item.inputs for item in apps.resources if item.custom and types in item.type}


def differences(program: Any, tested: Any, where: str = "") -> list[str]:
    """Where they differ; what the program takes from another resource or layer is no difference."""
    match program, tested:
        case {"$ref": _}, _:
            return []
        case dict(), dict():
            return [found for key in program.keys() | tested.keys()
                    for found in differences(program.get(key), tested.get(key), f"{where}.{key}")]  # fmt: skip
        case list(), list() if len(program) == len(tested):
            pairs = zip(program, tested, strict=True)
            return [found for number, (ours, its) in enumerate(pairs) for found in differences(ours, its, f"{where}[{number}]")]
    return [] if program == tested else [f"{where}: {program} in the program, {tested} in tests"]


def made(build: Callable[[], Any], types: str) -> Graph:
    kinds = {kind for kind, _ in program(types)}
    return {key: item for key, item in recorded(build).items() if key[0] in kinds}


@pytest.mark.parametrize("what", TESTED)
def test_what_is_judged_on_real_servers_is_what_the_program_makes(what: str) -> None:
    build, types = TESTED[what]
    inputs = {key: item.inputs for key, item in made(build, types).items()}
    assert program(types)
    assert program(types).keys() == inputs.keys()
    assert [found for key, its in inputs.items() for found in differences(program(types)[key], its, "/".join(key))] == []


def test_a_difference_is_seen() -> None:
    assert differences({"a": [{"b": 1}, {"$ref": 1}]}, {"a": [{"b": 1}, "x"]}) == []
    for other in ({"a": [{"b": 2}, "x"]}, {"a": [{"b": 1}]}, {"a": [{"b": 1}, "x"], "c": 1}, {}):
        assert differences({"a": [{"b": 1}, {"$ref": 1}]}, other)
