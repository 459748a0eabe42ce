"""A layer within the cluster against a base: each kind of change, what is refused, and what only a note can say."""

from dataclasses import replace
from typing import Any

import pytest

from infra.base import Base, masked
from infra.diff_cluster import diff_cluster
from infra.differences import Property
from infra.graph import Graph, Resource
from infra.rows import Diff
from tests.infra.graphs import all_layers, graph, ref, resource, secret

CLUSTER = Resource(urn="urn:cluster", name="cluster", type="pulumi:providers:kubernetes", custom=True, inputs={"context": "a"})


def _map(name: str, data: Any = None, namespace: str = "ai-infra", **options: Any) -> Resource:
    inputs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data or {}}
    return resource("kubernetes:core/v1:ConfigMap", name, inputs, provider="urn:cluster", **options)


def _graph(*resources: Resource, **outputs: Any) -> Graph:
    return graph(CLUSTER, *resources, **outputs)


def _diff(base: Graph | None, head: Graph) -> Diff:
    kept = base and replace(base, resources=tuple(replace(item, inputs=masked(item.inputs)) for item in base.resources))
    return diff_cluster(Base("main", "c" * 40, kept, None), head)


def _rows(found: Diff) -> dict[str, str]:
    return {row.address: row.action for row in found.rows}


def test_base_without_the_layer_is_said_and_everything_is_new() -> None:
    found = _diff(None, _graph(_map("a"), _map("b")))
    assert _rows(found) == {"ConfigMap.a": "create", "ConfigMap.b": "create"}
    assert found.notes == ("main has no program of dev-ground: everything is new.",)


def test_same_program_changes_nothing() -> None:
    same = _graph(_map("a", {"word": secret("hush")}), url="u")
    assert (_diff(same, same).rows, _diff(same, same).notes) == ((), ())


def test_change_is_told_property_by_property_and_what_is_gone_comes_first() -> None:
    base = _graph(_map("a", {"n": "1"}), _map("b"), _map("d", retain_on_delete=True))
    found = _diff(base, _graph(_map("a", {"n": "2"}), _map("c")))
    assert [(row.action, row.address) for row in found.rows] == [
        ("delete", "ConfigMap.b"),
        ("forget", "ConfigMap.d"),
        ("update", "ConfigMap.a"),
        ("create", "ConfigMap.c"),
    ]
    assert found.rows[2].properties == (Property("data.n", "1", "2"),)


def test_other_name_or_namespace_is_a_replacement_and_refused_where_it_is_protected() -> None:
    base = _graph(_map("a", protect=True))
    found = _diff(base, _graph(_map("a", namespace="other", protect=True)))
    assert found.rows[0].properties == (Property("metadata.namespace", "ai-infra", "other", forces=True),)
    assert [row.address for row in found.refused] == ["ConfigMap.a"]
    assert [row.address for row in _diff(base, _graph()).refused] == ["ConfigMap.a"]


def test_new_secret_is_a_change_that_shows_neither() -> None:
    base, head = (_graph(_map("a", {"word": secret(word)})) for word in ("hush", "sha256:hush"))
    [row] = _diff(base, head).rows
    [item] = row.properties
    assert (row.action, item.path) == ("update", "data.word.$secret")
    assert "hush" not in f"{item.before} {item.after}"


def test_outputs_and_providers_that_change_are_noted() -> None:
    base = _graph(_map("a"), old=ref("a", "id"))
    other = replace(CLUSTER, inputs={"context": "b"})
    head = graph(other, _map("a"), new=ref("a", "id"))
    assert _diff(base, head).notes == (
        "The provider cluster changes: context.",
        "The output old is gone: a stack that reads it cannot be deployed any more.",
        "The output new is new.",
    )


@pytest.mark.parametrize("layer", [1, 2], ids=["platform", "apps"])
def test_layer_against_itself_changes_nothing(layer: int) -> None:
    found = all_layers("dev")[layer]
    assert _diff(found, found).rows == ()
    assert len(_diff(None, found).rows) == sum(item.custom and item.provider is not None for item in found.resources)
