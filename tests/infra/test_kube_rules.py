"""The rules about a cluster through `by_rules`: a whole cluster passes, and each thing that breaks it is refused by name."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.check import by_rules
from tests.sentinelnet import BUNDLE, GOOD

FACTS = GOOD["apply"] | {"action": "apply"}
API, HEAD = "Deployment/ai-infra/api", "RayJob/training-prod/run-1/head"
SPOT = {"key": "ai-infra/spot", "operator": "Exists"}

Break = Callable[[dict[str, Any]], object]


def _set(kind: str, name: str, *path: str | int, value: Any) -> Break:
    def change(given: dict[str, Any]) -> None:
        found = next(item for item in given[kind] if item["id"] == name)
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return change


def _without(kind: str, name: str) -> Break:
    return lambda given: given.update({kind: [item for item in given[kind] if item["id"] != name]})


BROKEN: list[tuple[str, str, Break]] = [
    ("infra.pods", API, _set("pods", API, "spec", "serviceAccountName", value="default")),
    ("infra.pods", API, _set("pods", API, "spec", "containers", 0, "livenessProbe", value={})),
    ("infra.default-deny", API, _without("policies", "NetworkPolicy/ai-infra/default-deny")),
    (
        "infra.default-deny",
        "NetworkPolicy/ai-infra/api",
        _set("policies", "NetworkPolicy/ai-infra/api", "spec", "ingress", 0, "from", value=[]),
    ),
    ("infra.images", API, _set("pods", API, "spec", "containers", 0, "image", value="registry.example/ai-infra:1")),
    ("infra.images", "Release/gpu-operator", _set("releases", "Release/gpu-operator", "version", value=">=25")),
    (
        "infra.models",
        "InferenceService/models-prod/digits",
        _set("services", "InferenceService/models-prod/digits", "spec", "predictor", "model", "storageUri", value="s3://b/m"),
    ),
    (
        "infra.models",
        "InferenceService/models-prod/digits",
        _set("services", "InferenceService/models-prod/digits", "spec", "predictor", "model", "livenessProbe", value={}),
    ),
    ("infra.gpu-tolerations", "NodeGroup/gpu", _set("releases", "Release/gpu-operator", "tolerations", value=[])),
    ("infra.spot", "NodePool/gpu-spot", _set("pools", "NodePool/gpu-spot", "taints", value=[])),
    ("infra.spot", HEAD, _set("pods", HEAD, "spec", "tolerations", value=[SPOT])),
]


def test_cluster_that_keeps_every_rule_has_no_violation() -> None:
    assert by_rules(BUNDLE, FACTS) == []


@pytest.mark.parametrize(("rule", "thing", "broken"), BROKEN, ids=[f"{rule} of {thing}" for rule, thing, _ in BROKEN])
def test_what_breaks_a_rule_is_refused_by_its_name(rule: str, thing: str, broken: Break) -> None:
    given = copy.deepcopy(FACTS)
    broken(given)
    assert (rule, thing) in {(item.rule, item.resource) for item in by_rules(BUNDLE, given)}


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, *_ in BROKEN} == set(BUNDLE.rules_for("apply"))
