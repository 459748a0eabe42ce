"""The objects of a graph as a Kubernetes API server would get them. It renders no chart: what a Release makes is not here."""

from typing import Any, Final

from infra.graph import Graph
from services.core.kube import Object

PREFIX: Final = "kubernetes:"
RELEASE: Final = "kubernetes:helm.sh/v3:Release"

SAMPLES: Final = (
    ("_arn", "arn:aws:iam::111122223333:role/sample"),
    ("_arns", "arn:aws:iam::111122223333:role/sample"),
    ("_url", "https://sample.example:8443"),
    ("_endpoint", "sample.example:5432"),
    ("vpc_id", "vpc-0123456789abcdef0"),
    ("subnet_ids", "subnet-0123456789abcdef0"),
    ("security_group_id", "sg-0123456789abcdef0"),
    ("", "sample"),
)
"""End of an output's name → a text of its form; the first that fits."""


def objects(graph: Graph) -> tuple[Object, ...]:
    """Namespaces first, for others live in them; else in the order of the graph. What is not known yet is a text of its form."""
    found = [_known(item.inputs) for item in graph.resources if item.type.startswith(PREFIX) and item.type != RELEASE]
    return tuple(sorted(found, key=lambda item: item["kind"] != "Namespace"))


class _Unknown:
    """A value that only a deployed stack has, or that nobody is to see."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = _Unknown()


def with_unknowns(value: Any) -> Any:
    """Inputs with UNKNOWN for whatever is no plain value."""
    match value:
        case {"$ref": _} | {"$join": _} | {"$secret": _}:
            return UNKNOWN
        case dict():
            return {key: with_unknowns(item) for key, item in value.items()}
        case list():
            return [with_unknowns(item) for item in value]
    return value


def _known(value: Any) -> Any:
    match value:
        case {"$ref": {"path": [*path]}}:
            return _sample(path)
        case {"$join": [*parts]}:
            return "".join(map(_known, parts))
        case {"$secret": hidden}:
            return _known(hidden)
        case dict():
            return {key: _known(item) for key, item in value.items()}
        case list():
            return [_known(item) for item in value]
    return value


def _sample(path: list[str | int]) -> str:
    """Of a stack's output the second step is its name; the first is `outputs`."""
    name = str(path[1] if path[0] == "outputs" else path[-1])
    return next(text for end, text in SAMPLES if name.endswith(end))
