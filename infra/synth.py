"""The AWS part of a graph as Terraform JSON, for the provider to judge. Nothing of it is ever applied to AWS: see `_provider`.

Components, and resources of other providers, are not of it. What cannot be translated is an error, never left out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from infra.expressions import ANY, Expressions, Thing, legal, named
from infra.graph import Graph, Resource
from infra.schema import Plain, Schema, Shape
from infra.table import FILE, Row, Rows, table
from infra.terraform import REQUIRED, Terraform
from services.core.errors import BadInput

Json = dict[str, Any]

PROVIDER = "pulumi:providers:aws"

STEP = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]|\["([^"]*)"\]')
"""Of a property path: a name, a number in brackets, or a quoted key in brackets."""

OFFLINE = {
    "access_key": "offline",
    "secret_key": "offline",
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_requesting_account_id": True,
}
"""The provider asks AWS nothing. Its credentials are none, so that nobody can apply the document by mistake."""


def addresses(graph: Graph, rows: Rows | None = None) -> dict[str, str]:
    """URN → address of every AWS resource.

    Args:
        rows: of the table of types; without them this checkout's.
    Raises:
        BadInput: a type is not in the table, or two resources would have one address.
    """
    found = {item.urn: f"{_row(item, rows).type}.{legal(item.name)}" for item in aws_resources(graph)}
    twice = [address for address, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise BadInput(f"{twice[0]} is two resources of the program: give one of them another name")
    return found


def synthesise(graph: Graph, schema: Schema | None = None, rows: Rows | None = None) -> Json:
    """Terraform JSON: providers, resources, sensitive variables in place of secrets, outputs.

    Args:
        schema: of the provider; without it that which Terraform tells.
        rows: of the table of types; without them this checkout's.
    Raises:
        BadInput: something cannot be translated; the message names resource and property.
    """
    return _Synthesis(graph, schema or Terraform().schema(), rows).document()


class _Synthesis:
    def __init__(self, graph: Graph, schema: Schema, rows: Rows | None) -> None:
        self._graph, self._schema, self._rows, self._addresses = graph, schema, rows, addresses(graph, rows)
        self._things = {item.urn: self._thing(item) for item in aws_resources(graph)}
        self._expressions = Expressions(self._things)

    def document(self) -> Json:
        resources: Json = {}
        for item in aws_resources(self._graph):
            kind, name = self._addresses[item.urn].split(".")
            resources.setdefault(kind, {})[name] = self._resource(item)
        found = {
            "terraform": REQUIRED,
            "provider": {"aws": [self._provider(item) for item in self._graph.resources if item.type == PROVIDER]},
            "resource": resources,
            "output": {legal(name): self._output(name, value) for name, value in self._graph.outputs.items()},
            "variable": self._expressions.variables,
        }
        return {key: value for key, value in found.items() if value}

    def _thing(self, item: Resource) -> Thing:
        row = _row(item, self._rows)
        return Thing(self._addresses[item.urn], row.names, self._schema.resource(row.type))

    def _resource(self, item: Resource) -> Json:
        thing = self._things[item.urn]
        found: Json = {}
        for key, value in item.inputs.items():
            name = named(key, thing.fields, thing.names, thing.address)
            found[name] = self._expressions.encode(value, thing.fields.fields[name], f"{thing.address}.{key}")
        return found | self._meta(item, thing)

    def _meta(self, item: Resource, thing: Thing) -> Json:
        lifecycle: Json = {"prevent_destroy": True} if item.protect else {}
        if item.ignore_changes:
            lifecycle["ignore_changes"] = [_ignored(thing, path) for path in item.ignore_changes]
        waits_for = sorted({self._addresses[urn] for after in item.depends_on for urn in self._inside(after)} - {thing.address})
        found = {"provider": self._alias(item, thing), "lifecycle": lifecycle, "depends_on": waits_for}
        return {key: value for key, value in found.items() if value}

    def _alias(self, item: Resource, thing: Thing) -> str:
        providers = {found.urn: legal(found.name) for found in self._graph.resources if found.type == PROVIDER}
        if item.provider not in providers:
            raise BadInput(f"{thing.address} has no provider of the program: pass one to its component")
        return f"aws.{providers[item.provider]}"

    def _provider(self, item: Resource) -> Json:
        fields = self._schema.provider()
        found: Json = {"alias": legal(item.name)}
        for key, value in item.inputs.items():
            name = named(key, fields, {}, item.name)
            # The provider would have to ask AWS for its account, which is refused together with skip_requesting_account_id.
            if name != "allowed_account_ids":
                found[name] = self._expressions.encode(_read(value, fields.fields[name]), fields.fields[name], f"{item.name}.{key}")
        return found | OFFLINE

    def _inside(self, urn: str) -> Iterator[str]:
        """AWS resources that a URN stands for: itself, or all within a component."""
        if urn in self._things:
            yield urn
        for child in self._graph.resources:
            if child.parent == urn:
                yield from self._inside(child.urn)

    def _output(self, name: str, value: Any) -> Json:
        found = {"value": self._expressions.encode(value, ANY, name)}
        return found | {"sensitive": True} if name in self._graph.secret_outputs else found


def aws_resources(graph: Graph) -> Iterator[Resource]:
    """What the provider judges."""
    return (item for item in graph.resources if item.custom and item.type.startswith("aws:"))


def _row(item: Resource, rows: Rows | None) -> Row:
    row = (table() if rows is None else rows).get(item.type)
    if row is None:
        raise BadInput(f"{item.name}: type {item.type} is not in {FILE.name}: add it with its Terraform type, after a look at both")
    return row


def _read(value: Any, shape: Shape) -> Any:
    """Inputs of providers are texts, whatever they are: lists and objects as JSON."""
    return json.loads(value) if isinstance(value, str) and not (isinstance(shape, Plain) and shape.kind == "string") else value


def _ignored(thing: Thing, path: str) -> str:
    """It stays a path: of an attribute's parts only those named are ignored."""
    steps = [int(number) if number else quoted or name for name, number, quoted in STEP.findall(path)]
    try:
        text, _ = thing.path(steps)
    except BadInput as error:
        raise BadInput(f"{thing.address}: changes of {path} are to be ignored: {error}") from error
    return text.removeprefix(".")
