"""The table of allowed calls, compared with what services are told to call, and with the policies that are made of it."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.apps.calls import API, CALLS, OURS, POD_IDENTITY, PREDICTOR, PROXY, TRAINING, Addresses, Places, Pods, calls_of
from components.apps.network_policies import NetworkPolicies, NetworkPoliciesArgs
from services.serving.inference import verifying
from services.serving.storage_container import storage_container
from tests.infra.apps import API_ARGS, MODELS, PLACES, PROXY_ARGS, SERVICES, TRAINING_SPACE, all_of_it, environ
from tests.infra.recorded import recorded
from tests.kube.objects import storage_args

PORTS = {"https": 443, "http": 80, "s3": 443, "postgresql+psycopg": 5432}
SELF = ("127.0.0.1", "localhost")
HOSTS = {
    f"api.{SERVICES}.svc": API,
    f"signing-proxy.{SERVICES}.svc": PROXY,
    "kubernetes.default.svc": "kubernetes",
    urlsplit(str(API_ARGS.prometheus_url)).hostname: "prometheus",
    urlsplit(str(PROXY_ARGS.vault_url)).hostname: "vault",
    urlsplit(str(API_ARGS.otlp_url)).hostname: "collector",
    str(API_ARGS.database).split(":")[0]: "database",
    str(API_ARGS.store): "objects",
    urlsplit(storage_args().objects).hostname: "objects",
}
"""Where each host of a URL is, in the words of the table."""


@pytest.fixture(scope="module")
def told() -> dict[str, Mapping[str, str]]:
    """What each party of ours is told, by its environment variables."""
    made = all_of_it()
    initialiser = storage_container(storage_args())["spec"]["container"]["env"]
    predictor = verifying("dev", environ(made, PROXY)["AI_INFRA_API_URL"]) | {item["name"]: item["value"] for item in initialiser}
    return {API: environ(made, API), PROXY: environ(made, PROXY), PREDICTOR: predictor}


def urls(told: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    """Variable, host and port of each setting that names another process."""
    for name, value in told.items():
        if re.match(r"[a-z0-9+]+://", value):
            parts = urlsplit(value)
            if parts.hostname not in SELF:
                yield name, str(parts.hostname), parts.port or PORTS[parts.scheme]


def test_every_setting_that_names_another_process_is_an_allowed_call(told: dict[str, Mapping[str, str]]) -> None:
    settings = {(party, name, HOSTS[host], port) for party, values in told.items() for name, host, port in urls(values)}
    table = {(call.caller, name, call.callee, port) for call in CALLS for name in call.settings for port in call.tcp}
    assert settings == table


def test_who_has_no_settings_calls_nobody_of_ours() -> None:
    assert {call.callee for call in calls_of(TRAINING)} == {TRAINING, "dns"}


def test_every_party_of_the_table_has_a_place_and_each_call_is_there_once() -> None:
    for call in CALLS:
        PLACES.of(call.caller)
        PLACES.of(call.callee)
    pairs = [(call.caller, call.callee) for call in CALLS]
    assert len(pairs) == len(set(pairs))
    assert {call.caller for call in CALLS if call.settings} <= set(OURS)


def test_every_namespace_of_ours_is_closed() -> None:
    made = recorded(lambda: NetworkPolicies("network", NetworkPoliciesArgs(places=PLACES)))
    closed = {
        item.inputs["metadata"]["namespace"]
        for item in made.values()
        if item.inputs["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert closed == {SERVICES, MODELS, TRAINING_SPACE}


def opened(places: Places = PLACES) -> set[tuple[str, str, str, tuple[tuple[str, int], ...]]]:
    """What the policies open: (party, from or to, whom, ports)."""
    made = recorded(lambda: NetworkPolicies("network", NetworkPoliciesArgs(places=places)))
    found = set()
    for party in OURS:
        spec = made["NetworkPolicy", f"{party}-calls"].inputs["spec"]
        assert spec["podSelector"] == selector(places.of(party))
        for way, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way, []):
                assert rule[key], "a rule without peers opens to everybody"
                ports = tuple(sorted((port["protocol"], int(port["port"])) for port in rule.get("ports", [])))
                found.add((party, way, whom(rule[key], places), ports))
    return found


def selector(place: Any) -> dict[str, Any]:
    assert isinstance(place, Pods)
    return {"matchLabels": dict(place.labels)} if place.labels else {}


def whom(peers: list[dict[str, Any]], places: Places) -> str:
    """The places that a rule's peers are, sorted and joined: two parties may be in the same one."""
    names = {call.caller for call in CALLS} | {call.callee for call in CALLS}
    return "|".join(sorted(name for name in names if described(places.of(name)) == peers))


def described(place: Any) -> list[dict[str, Any]]:
    if isinstance(place, Addresses):
        but = {"except": list(place.but)} if place.but else {}
        return [{"ipBlock": {"cidr": block} | but} for block in place.blocks]
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}
    return [{"namespaceSelector": namespace, "podSelector": selector(place)}]


def test_policies_open_the_calls_of_the_table_and_nothing_else() -> None:
    places = replace(PLACES, witness_blocks=["203.0.113.7/32"])
    wanted = set()
    for call in CALLS:
        ports = tuple(sorted([("TCP", port) for port in call.tcp] + [("UDP", port) for port in call.udp]))
        if call.caller in OURS:
            wanted.add((call.caller, "egress", whom(described(places.of(call.callee)), places), ports))
        if call.callee in OURS:
            wanted.add((call.callee, "ingress", whom(described(places.of(call.caller)), places), ports))
    assert opened(places) == wanted


def test_without_witnesses_nothing_is_opened_for_them() -> None:
    assert not any("witnesses" in who for _, _, who, _ in opened())


def test_the_signing_proxy_never_leaves_the_network() -> None:
    for call in calls_of(PROXY):
        place = PLACES.of(call.callee)
        if isinstance(place, Addresses):
            assert all(ipaddress.ip_network(str(block)).is_private for block in place.blocks), call.callee


def test_what_may_leave_the_network_reaches_nothing_within_it() -> None:
    wide = PLACES.of("objects")
    assert isinstance(wide, Addresses)
    inside = [*PLACES.node_blocks, *PLACES.database_blocks, POD_IDENTITY]
    for block in inside:
        assert any(ipaddress.ip_network(str(block)).subnet_of(ipaddress.ip_network(but)) for but in wide.but)  # type: ignore[arg-type]
