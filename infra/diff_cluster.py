"""What a change of the program does to what a stack has in the cluster: its objects, releases of charts and parts of Vault.

Nobody is asked, and no chart is rendered: of a release its values are compared. Fields that the API server lets nobody change are
not known here, but for a name and a namespace: a change of those is a replacement.
"""

from collections.abc import Iterator

from infra.base import Base, masked
from infra.differences import Property, differences
from infra.graph import Graph, Resource
from infra.lineage import successors
from infra.notes import all_new, options, provider_notes
from infra.rows import ORDER, Action, Diff, Row

IDENTITY = ("metadata.name", "metadata.namespace", "name", "namespace")
READ = "pulumi:pulumi:StackReference"


def diff_cluster(base: Base, head: Graph) -> Diff:
    """base: with the graph's inputs."""
    if base.graph is None:
        rows = [Row("create", _address(item), item.urn, False) for item in _made(head)]
        return _diff(base, head, rows, [all_new(base.ref, head.stack)])
    after = successors(base.graph, head)
    rows = list(_rows(base.graph, head, after))
    notes = [*provider_notes(base.graph, head, after), *_output_notes(base.graph, head)]
    return _diff(base, head, rows, notes)


def _diff(base: Base, head: Graph, rows: list[Row], notes: list[str]) -> Diff:
    ordered = sorted(rows, key=lambda row: (ORDER.index(row.action), row.address))
    return Diff(head.stack, base.ref, base.commit, tuple(ordered), tuple(notes), {}, frozenset())


def _rows(base: Graph, head: Graph, after: dict[str, str]) -> Iterator[Row]:
    before = {new: old for old, new in after.items()}
    for old in _made(base):
        if old.urn not in after:
            yield Row("forget" if old.retain_on_delete else "delete", _address(old), old.urn, old.protect)
    for new in _made(head):
        if new.urn not in before:
            yield Row("create", _address(new), new.urn, False)
            continue
        row = _row(base.resource(before[new.urn]), new)
        if row is not None:
            yield row


def _row(old: Resource, new: Resource) -> Row | None:
    """Nothing where nothing changes. old: masked."""
    changed = [_forcing(item) for item in differences(old.inputs, masked(new.inputs))]
    found = (*changed, *options(old, new))
    moved = _address(old) if _address(old) != _address(new) else None
    if not found and moved is None:
        return None
    action: Action = "replace" if any(item.forces for item in found) else "update" if found else "move"
    return Row(action, _address(new), new.urn, old.protect, found, moved)


def _forcing(item: Property) -> Property:
    return Property(item.path, item.before, item.after, forces=item.path in IDENTITY)


def _made(graph: Graph) -> Iterator[Resource]:
    """All that is made in the cluster."""
    return (item for item in graph.resources if item.custom and item.provider is not None and item.type != READ)


def _address(item: Resource) -> str:
    """As Deployment.api."""
    return f"{item.type.rsplit(':', 1)[-1]}.{item.name}"


def _output_notes(base: Graph, head: Graph) -> Iterator[str]:
    for name in sorted(base.outputs.keys() - head.outputs.keys()):
        yield f"The output {name} is gone: a stack that reads it cannot be deployed any more."
    for name in sorted(head.outputs.keys() - base.outputs.keys()):
        yield f"The output {name} is new."
