"""What a diff says beside its rows, of stacks of every layer."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.base import masked
from infra.differences import Property
from infra.graph import Graph, Resource

PROVIDERS = "pulumi:providers:"


def all_new(base: str, stack: str) -> str:
    return f"{base} has no program of {stack}: everything is new."


def provider_notes(base: Graph, head: Graph, after: Mapping[str, str]) -> Iterator[str]:
    new_ones = {item.urn: item for item in _providers(head)}
    for item in _providers(base):
        new = new_ones.pop(after.get(item.urn, ""), None)
        if new is None:
            yield f"The provider {item.name} is gone."
        elif item.inputs != masked(new.inputs):
            now = masked(new.inputs)
            keys = sorted(key for key in item.inputs.keys() | now.keys() if item.inputs.get(key) != now.get(key))
            yield f"The provider {item.name} changes: {', '.join(keys)}."
    for item in new_ones.values():
        yield f"The provider {item.name} is new."


def other_notes(base: Graph, head: Graph, after: Mapping[str, str]) -> Iterator[str]:
    """Of what is in the ground and none of AWS's: no provider judges it here."""
    new_ones = {item.urn: item for item in _others(head)}
    for item in _others(base):
        new = new_ones.pop(after.get(item.urn, ""), None)
        if new is None:
            yield f"{_told(item)} is gone."
        elif item.inputs != masked(new.inputs):
            yield f"{_told(item)} changes."
    for item in new_ones.values():
        yield f"{_told(item)} is new."


def output_notes(plan: Mapping[str, Any]) -> Iterator[str]:
    said = {
        ("create",): "is new",
        ("update",): "changes: a stack that reads it gets another value",
        ("delete",): "is gone: a stack that reads it cannot be deployed any more",
    }
    for name, change in sorted(plan.get("output_changes", {}).items()):
        if tuple(change["actions"]) in said:
            yield f"The output {name} {said[tuple(change['actions'])]}."


def options(old: Resource | None, new: Resource | None) -> list[Property]:
    """Those by which the engine decides what to do with a resource, now or in a change to come."""
    if old is None or new is None:
        return []
    pairs: dict[str, tuple[Any, Any]] = {
        "protect": (old.protect, new.protect),
        "retainOnDelete": (old.retain_on_delete, new.retain_on_delete),
        "ignoreChanges": (sorted(old.ignore_changes), sorted(new.ignore_changes)),
    }
    return [Property(name, before, after) for name, (before, after) in pairs.items() if before != after]


def _told(item: Resource) -> str:
    return f"{item.name} ({item.type}), which the AWS provider does not judge,"


def _others(graph: Graph) -> Iterator[Resource]:
    return (item for item in graph.resources if item.custom and not item.type.startswith((PROVIDERS, "aws:")))


def _providers(graph: Graph) -> Iterator[Resource]:
    return (item for item in graph.resources if item.type.startswith(PROVIDERS))
