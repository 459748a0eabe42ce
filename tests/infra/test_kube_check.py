"""`infra check` within the cluster: each environment is clean, and each broken copy is refused by the rule that it breaks."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.check import by_rules, check_cluster
from infra.graph import Graph
from infra.kube_facts import kube_facts
from infra.kubernetes import RELEASE
from infra.manifests import manifests
from services.core.errors import BadInput
from tests.infra.graphs import all_layers
from tests.peers import ROOT
from tests.sentinelnet import BUNDLE

ENVIRONMENTS = ["dev", "staging", "prod"]


@pytest.mark.parametrize("layer", ["platform", "apps"])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_layer_keeps_every_rule(environment: str, layer: str) -> None:
    upto = [graph.layer for graph in all_layers(environment)].index(layer) + 1
    assert check_cluster(ROOT, BUNDLE, all_layers(environment)[:upto]) == []


def _broken(graphs: tuple[Graph, ...], kind: str, change: Callable[[dict[str, Any]], object]) -> tuple[Graph, ...]:
    """With other inputs of each resource of a kind. kind: the end of its type."""
    values = [graph.to_json() for graph in graphs]
    found = [item for value in values for item in value["resources"] if item["type"].endswith(kind)]
    assert found
    for item in found:
        change(item["inputs"])
    return tuple(Graph.from_json(value) for value in values)


def _plain(inputs: dict[str, Any]) -> None:
    inputs["spec"]["template"]["spec"]["taints"] = []


def _intolerant(inputs: dict[str, Any]) -> None:
    if inputs["chart"] == "gpu-operator":
        inputs["values"].pop("node-feature-discovery")


@pytest.mark.parametrize(
    ("rule", "kind", "change"),
    [
        ("infra.spot", "karpenter.sh/v1:NodePool", _plain),
        ("infra.gpu-tolerations", RELEASE, _intolerant),
        ("infra.images", RELEASE, lambda inputs: inputs.update(version=">=1.0.0")),
    ],
)
def test_broken_platform_is_refused_by_the_rule(rule: str, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    found = check_cluster(ROOT, BUNDLE, _broken(all_layers("prod")[:2], kind, change))
    assert {item.rule for item in found} == {rule}


def _pod(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda facts: [pod["spec"].update(changes) for pod in facts["pods"]]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("infra.pods", _pod(hostNetwork=True)),
        ("infra.spot", _pod(tolerations=[{"operator": "Exists"}])),
        ("infra.default-deny", lambda facts: facts.update(policies=[])),
    ],
)
def test_broken_apps_are_refused_by_the_rule(rule: str, change: Callable[[dict[str, Any]], object]) -> None:
    facts = copy.deepcopy(kube_facts(all_layers("prod"), manifests(ROOT, "prod")))
    change(facts)
    assert {item.rule for item in by_rules(BUNDLE, facts)} == {rule}


def test_manifests_are_read_by_file_and_what_is_none_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "stacks" / "dev" / "jobs"
    folder.mkdir(parents=True)
    assert manifests(tmp_path, "dev") == ()
    one, two = ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("a", "b"))
    (folder / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")
    (folder / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    assert manifests(tmp_path, "dev") == (one, two)
    (folder / "c.yaml").write_text("- a list\n")
    with pytest.raises(BadInput, match=r"stacks/dev/jobs/c.yaml holds something that is no Kubernetes object"):
        manifests(tmp_path, "dev")
    (folder / "c.yaml").write_text("{")
    with pytest.raises(BadInput, match=r"stacks/dev/jobs/c.yaml is not YAML"):
        manifests(tmp_path, "dev")
