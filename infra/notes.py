"""What a diff says beside its rows, of stacks of every layer."""

from collections.abc import Iterator, Mapping

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
        elif item.inputs != new.inputs:
            keys = sorted(key for key in item.inputs.keys() | new.inputs.keys() if item.inputs.get(key) != new.inputs.get(key))
            yield f"The provider {item.name} changes: {', '.join(keys)}."
    for item in new_ones.values():
        yield f"The provider {item.name} is new."


def protection(old: Resource | None, new: Resource | None) -> list[Property]:
    if old is None or new is None or old.protect == new.protect:
        return []
    return [Property("protect", old.protect, new.protect)]


def _providers(graph: Graph) -> Iterator[Resource]:
    return (item for item in graph.resources if item.type.startswith(PROVIDERS))
