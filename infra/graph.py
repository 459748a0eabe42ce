"""What the Pulumi program makes, as one value: every resource with its inputs and options, and the stack's outputs.

Inputs are JSON values in the engine's spelling (camelCase). What only AWS knows is said by these forms, at any depth:

- `{"$ref": {"urn": U, "path": ["arn"]}}`: an output of a resource; whole numbers in a path are items of lists
- `{"$join": ["arn:aws:s3:::", {"$ref": ...}, "/*"]}`: text with outputs in it
- `{"$secret": value}`: what nobody may read; the value may hold the other two

`recorder` makes it, `render` reads it from a checkout. Nothing here knows of AWS, or of Terraform.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from services.core.errors import BadInput

VERSION: Final = 1
STRICT: Final = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """custom: of a provider, not a component; provider: URN; depends_on: what it waits for beyond what its inputs refer to.

    secret_inputs: paths of the secrets within inputs, as masterPassword or settings[0].value.
    """

    __pydantic_config__ = STRICT

    urn: str
    name: str
    type: str
    custom: bool
    parent: str | None = None
    provider: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    protect: bool = False
    depends_on: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    aliases: tuple[Any, ...] = ()
    delete_before_replace: bool = False
    retain_on_delete: bool = False
    secret_inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """path: of the output, in the engine's spelling."""

    urn: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """resources: parents before their children, else in the order of their URNs."""

    __pydantic_config__ = STRICT

    version: Literal[1] = VERSION
    environment: str
    layer: str
    project: str
    stack: str
    resources: tuple[Resource, ...]
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises BadInput: it is no graph, a URN is there twice, or something refers to what is not there."""
        try:
            # As JSON: it has no tuples, and lists are taken for them.
            graph: Self = TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"not a graph of version {VERSION}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        _check(graph)
        return graph

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json", by_alias=True)
        return value

    def resource(self, urn: str) -> Resource:
        """Raises BadInput: there is none."""
        if urn not in self._by_urn:
            raise BadInput(f"{urn} is no resource of {self.stack}")
        return self._by_urn[urn]

    def of(self, kind: str) -> tuple[Resource, ...]:
        """All of one type, as aws:kms/key:Key."""
        return tuple(item for item in self.resources if item.type == kind)

    @cached_property
    def _by_urn(self) -> Mapping[str, Resource]:
        return {item.urn: item for item in self.resources}


def references(value: Any) -> Iterator[Reference]:
    """All that a value refers to, in the order of the value.

    Raises:
        BadInput: a form that begins with `$` is none of the three.
    """
    match value:
        case {"$ref": {"urn": str(urn), "path": list(path)}} if len(value) == 1 and path:
            yield Reference(urn, tuple(path))
        case {"$join": list(parts)} if len(value) == 1:
            for part in parts:
                yield from references(part)
        case {"$secret": hidden} if len(value) == 1:
            yield from references(hidden)
        case dict():
            odd = next((key for key in value if key.startswith("$")), None)
            if odd is not None:
                raise BadInput(f"{odd} with {', '.join(sorted(value))} is no form of a value")
            for item in value.values():
                yield from references(item)
        case list():
            for item in value:
                yield from references(item)


def _check(graph: Graph) -> None:
    if len(graph._by_urn) != len(graph.resources):
        twice = next(item for item in graph.resources if graph._by_urn[item.urn] is not item)
        raise BadInput(f"{twice.urn} is there twice: give one of the two another name")
    for item in graph.resources:
        named = [item.parent, item.provider, *item.depends_on, *(found.urn for found in references(item.inputs))]
        _check_known(graph, item.name, named)
    _check_known(graph, "the outputs", [found.urn for found in references(graph.outputs)])


def _check_known(graph: Graph, who: str, urns: list[str | None]) -> None:
    absent = next((urn for urn in urns if urn is not None and urn not in graph._by_urn), None)
    if absent is not None:
        raise BadInput(f"{who} refers to {absent}, which is no resource of {graph.stack}")
