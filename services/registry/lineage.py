"""What a version was made from, and what was made from it: data sets, runs, models, deployments. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, order=True)
class Node:
    """kind: dataset, run, model or deployment; id: its identity; label: for people, of one line or more."""

    kind: str
    id: str
    label: str


@dataclass
class Graph:
    """edges: from what was used to what was made of it."""

    nodes: dict[tuple[str, str], Node] = field(default_factory=dict)
    edges: set[tuple[tuple[str, str], tuple[str, str]]] = field(default_factory=set)

    def add(self, node: Node, made_of: Iterable[tuple[str, str]] = ()) -> None:
        key = (node.kind, node.id)
        self.nodes[key] = node
        self.edges.update((source, key) for source in made_of)

    def reach(self, start: tuple[str, str], *, up: bool) -> "Graph":
        """The part that `start` was made from (up), or that was made from it."""
        found, waiting, near = Graph(), [start], defaultdict(list)
        for edge in self.edges:
            near[edge[1 if up else 0]].append(edge)
        while waiting:
            key = waiting.pop()
            if key in found.nodes or key not in self.nodes:
                continue
            found.nodes[key] = self.nodes[key]
            for edge in near[key]:
                found.edges.add(edge)
                waiting.append(edge[0] if up else edge[1])
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "nodes": [{"kind": node.kind, "id": node.id, "label": node.label} for node in sorted(self.nodes.values())],
            "edges": [{"from": ":".join(a), "to": ":".join(b)} for a, b in sorted(self.edges)],
        }

    def to_dot(self) -> str:
        """Graphviz."""
        shapes = {"dataset": "cylinder", "run": "cds", "model": "box", "deployment": "component"}
        lines = ["digraph lineage {", "  rankdir=LR;"]
        for node in sorted(self.nodes.values()):
            lines.append(f'  "{node.kind}:{node.id}" [shape={shapes[node.kind]}, label="{_quoted(node.label)}"];')
        lines += [f'  "{":".join(a)}" -> "{":".join(b)}";' for a, b in sorted(self.edges)]
        return "\n".join([*lines, "}"])


def build(datasets: Iterable[dict[str, Any]], versions: Iterable[dict[str, Any]], deployments: Iterable[dict[str, Any]]) -> Graph:
    """The whole graph, from records as the services give them."""
    graph = Graph()
    for dataset in datasets:
        label = f"{dataset['name']}@{dataset['version']}\n{dataset['licence']}"
        graph.add(Node("dataset", dataset["id"], label), [("dataset", parent) for parent in dataset["parents"]])
    for version in versions:
        reference = f"{version['model']}@{version['number']}"
        run = ("run", version["run_id"])
        graph.add(Node(*run, version["run_id"][:16]), [("dataset", item) for item in version["datasets"]])
        graph.add(Node("model", reference, reference), [run, *(("model", parent) for parent in version["parents"])])
    for deployment in deployments:
        label = f"{deployment['environment']}: {deployment['state']}"
        model = ("model", f"{deployment['model']}@{deployment['number']}")
        graph.add(Node("deployment", deployment["id"], label), [model])
    return graph


def _quoted(text: str) -> str:
    """As within a quoted string of Graphviz, where a backslash begins an escape."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
