"""Which resource of a base program is which of the head's: the same URN, or one that an alias names. As the engine decides it.

An alias of a component holds for what is within it. A resource that the engine would not find again is deleted and made anew,
even where its name is the same.
"""

from collections.abc import Iterator
from typing import Any

from infra.graph import Graph, Resource


def successors(base: Graph, head: Graph) -> dict[str, str]:
    """URN in the base → URN in the head, of every resource that both have."""
    names = _Names(head)
    old = {item.urn for item in base.resources}
    # What keeps its URN is itself, whatever else of the head has it for an alias.
    found = {item.urn: item.urn for item in head.resources if item.urn in old}
    for item in head.resources:
        first = next((urn for urn in names.of(item.urn) if urn in old and urn not in found), None)
        if first is not None and item.urn not in old:
            found[first] = item.urn
    return found


class _Names:
    """Every URN that a resource of a graph may have had."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, list[str]] = {}

    def of(self, urn: str) -> list[str]:
        """Its own first."""
        if urn not in self._known:
            self._known[urn] = list(dict.fromkeys(self._all(self._graph.resource(urn))))
        return self._known[urn]

    def _all(self, item: Resource) -> Iterator[str]:
        yield item.urn
        for alias in item.aliases:
            yield from self._aliased(item, alias)
        for parent in self._parents(item):
            yield self._urn(parent, item.type, self._renamed(item, parent))

    def _aliased(self, item: Resource, alias: dict[str, Any]) -> Iterator[str]:
        if "urn" in alias:
            yield alias["urn"]
            return
        spec = alias.get("spec", {})
        parents: list[str | None] = [None] if spec.get("noParent") else [spec.get("parentUrn")] if spec.get("parentUrn") else []
        for parent in parents or self._parents(item):
            yield self._urn(parent, spec.get("type") or item.type, spec.get("name") or self._renamed(item, parent))

    def _parents(self, item: Resource) -> list[str | None]:
        return [None] if item.parent is None else [*self.of(item.parent)]

    def _renamed(self, item: Resource, parent: str | None) -> str:
        """Names of children begin with that of their component, as a rule: then they changed together."""
        if item.parent is None or parent is None or parent == item.parent:
            return item.name
        now = self._graph.resource(item.parent).name
        return parent.rpartition("::")[2] + item.name.removeprefix(now) if item.name.startswith(now) else item.name

    def _urn(self, parent: str | None, kind: str, name: str) -> str:
        within = "" if parent is None else parent.split("::")[2] + "$"
        return f"urn:pulumi:{self._graph.stack}::{self._graph.project}::{within}{kind}::{name}"
