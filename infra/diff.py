"""What a change of the program does to a stack: the head planned by the provider against what the base would have made.

It compares program with program. It does not know what somebody changed by hand in the account, nor whether the base was deployed.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.base import Base, base_of, unprotected
from infra.diff_cluster import diff_cluster
from infra.differences import Property, properties
from infra.graph import Graph, Resource
from infra.lineage import successors
from infra.notes import all_new, options, other_notes, output_notes, provider_notes
from infra.render import GROUND, render
from infra.rows import ORDER, Action, Diff, Row
from infra.state import stand_ins
from infra.synth import addresses, synthesise
from infra.terraform import Terraform

Json = dict[str, Any]

OPAQUE = re.compile(r"(?:arn:aws:[a-z0-9-]+:[a-z0-9-]*:\d+:[A-Za-z0-9_/.-]*-|https://|[a-z0-9]+-)([0-9a-f]{17})")


def diff_of(root: Path, ref: str, environment: str, layer: str, terraform: Terraform) -> Diff:
    """What the checkout at root changes in a stack, compared with a revision of it.

    Raises:
        BadInput, NotFound: as `render` and `base_of`.
        TerraformRefused: the provider finds fault with one of the two.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        base = beside.submit(base_of, root, ref, environment, layer, terraform)
        head = render(root, environment, layer)
        if layer != GROUND:
            return diff_cluster(base.result(), head)
        document = synthesise(head, terraform.schema())
        return diff(base.result(), head, document, terraform)


def diff(base: Base, head: Graph, document: Json, terraform: Terraform) -> Diff:
    """document: the head as Terraform JSON.

    Raises:
        TerraformRefused: the provider finds fault with the head.
    """
    ground = base.graph or replace(head, resources=(), outputs={}, secret_outputs=())
    return _Comparison(ground, base, head, document).judged(terraform)


class _Comparison:
    """ground: the base's graph, empty where it has none."""

    def __init__(self, ground: Graph, base: Base, head: Graph, document: Json) -> None:
        self._ground, self._base, self._head, self._document = ground, base, head, document
        self._old, self._new = base.addresses, addresses(head)
        self._after = {old: new for old, new in successors(ground, head).items() if self._alike(old, new)}
        self._before = {new: old for old, new in self._after.items()}
        self._places = self._placed()
        self._names = {} if base.state is None else stand_ins(base.state)

    def judged(self, terraform: Terraform) -> Diff:
        plan = terraform.plan(unprotected(self._document), self._moved_state())
        protected = frozenset(self._places[urn] for urn in self._old if self._ground.resource(urn).protect)
        rows = sorted(self._rows(plan), key=lambda row: (ORDER.index(row.action), row.address))
        notes = tuple(self._notes(plan))
        return Diff(self._head.stack, self._base.ref, self._base.commit, tuple(rows), notes, plan, protected)

    def _alike(self, old: str, new: str) -> bool:
        """An alias may name what has another type: that is no successor."""
        return self._old.get(old, "").split(".")[0] == self._new.get(new, "").split(".")[0]

    def _placed(self) -> dict[str, str]:
        """URN in the base → address in the state that the head is planned against.

        What the head does not have keeps its address, unless something else of the head has it now.
        """
        taken = set(self._new.values())
        places = {}
        for urn, address in self._old.items():
            new = self._new.get(self._after.get(urn, ""))
            if new is None:
                # The head may have that name too, by chance or to hide what is deleted.
                while address in taken:
                    address += "-of-base"
                taken.add(address)
            places[urn] = new or address
        return places

    def _moved_state(self) -> Json | None:
        if self._base.state is None:
            return None
        by_address = {address: self._places[urn] for urn, address in self._old.items()}
        again = {self._places[urn] for urn in self._old if self._elsewhere(urn)}
        resources = []
        for item in self._base.state["resources"]:
            address = by_address[f"{item['type']}.{item['name']}"]
            moved = item | {"name": address.split(".")[1]}
            if address in again:
                moved["instances"] = [instance | {"status": "tainted"} for instance in item["instances"]]
            resources.append(moved)
        return self._base.state | {"resources": resources}

    def _elsewhere(self, urn: str) -> bool:
        """It gets another provider, or one that works elsewhere: the engine makes it anew there."""
        if urn not in self._after:
            return False
        old, new = self._ground.resource(urn).provider, self._head.resource(self._after[urn]).provider
        if old is None or new is None:
            return False
        return self._after.get(old) != new or _place(self._ground, old) != _place(self._head, new)

    def _rows(self, plan: Json) -> Iterator[Row]:
        of_address = {address: urn for urn, address in self._new.items()} | {
            place: urn for urn, place in self._places.items() if place not in self._new.values()
        }
        for item in plan["resource_changes"]:
            if item["mode"] == "managed":
                row = self._row(item, of_address[item["address"]])
                if row is not None:
                    yield row

    def _row(self, item: Mapping[str, Any], urn: str) -> Row | None:
        old = self._resource(self._ground, self._before.get(urn) or urn)
        new = self._resource(self._head, urn if urn in self._new else None)
        action, change = self._action(item["change"]["actions"], old), item["change"]
        chosen = options(old, new)
        if action is None and old is not None and new is not None:
            action = "update" if chosen else "move" if self._old[old.urn] != self._new[new.urn] else None
        if action is None:
            return None
        found = [] if action in ("delete", "forget") else self._properties(item["address"], change)
        return Row(
            action,
            self._old[old.urn] if old is not None and new is None else item["address"],
            urn,
            old is not None and old.protect,
            (*found, *chosen, *self._provider(old, new)),
            self._old[old.urn] if old and new and self._old[old.urn] != self._new[new.urn] else None,
        )

    def _resource(self, graph: Graph, urn: str | None) -> Resource | None:
        known = self._old if graph is self._ground else self._new
        return graph.resource(urn) if urn is not None and urn in known else None

    def _action(self, actions: list[str], old: Resource | None) -> Action | None:
        if actions == ["delete"] and old is not None and old.retain_on_delete:
            return "forget"
        if len(actions) == 2:
            return "replace"
        named: dict[str, Action] = {"create": "create", "update": "update", "delete": "delete"}
        return named.get(actions[0])

    def _properties(self, address: str, change: Mapping[str, Any]) -> list[Property]:
        kind, name = address.split(".")
        found = properties(change, self._document["resource"].get(kind, {}).get(name, {}))
        return [replace(item, before=self._readable(item.before), after=self._readable(item.after)) for item in found]

    def _readable(self, value: Any) -> Any:
        """Stand-ins as the references that they stand for."""
        if isinstance(value, dict):
            return {key: self._readable(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._readable(item) for item in value]
        if isinstance(value, str):
            return OPAQUE.sub(lambda found: self._names.get(found.group(), found.group()), value)
        return value

    def _provider(self, old: Resource | None, new: Resource | None) -> list[Property]:
        if old is None or new is None or not self._elsewhere(old.urn):
            return []
        return [Property("provider", _told(self._ground, old.provider), _told(self._head, new.provider), forces=True)]

    def _notes(self, plan: Json) -> Iterator[str]:
        if self._base.graph is None:
            yield all_new(self._base.ref, self._head.stack)
            return
        yield from provider_notes(self._ground, self._head, self._after)
        yield from other_notes(self._ground, self._head, self._after)
        yield from output_notes(plan)


def _place(graph: Graph, provider: str) -> tuple[Any, ...]:
    """Where a provider works."""
    inputs = graph.resource(provider).inputs
    return inputs.get("region"), inputs.get("allowedAccountIds")


def _told(graph: Graph, provider: str | None) -> str:
    return graph.resource(provider).name if provider is not None else ""
