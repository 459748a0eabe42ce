"""What a program would have made, as a Terraform state: what its plan knows, and stand-ins for what only AWS can know.

A stand-in is made from address and path alone, so that the same program has the same state each time, and is of the right type
and form: the provider reads ARNs. Whatever refers to one gets the same one.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from infra.schema import Fields, ListOf, MapOf, Plain, Schema, Shape
from infra.terraform import IN_PLACE_OF_SECRETS
from infra.values import agree

Json = dict[str, Any]
Path = tuple[str | int, ...]

VERSION = 4
"""Of the state's format."""

TOKEN = re.compile(r'\$\$\{|%%\{|\$\{"\$"\}|\$\{([^{}]*)\}')
"""In a text of the document: an escape, a dollar, or what the group refers to."""

TARGET = re.compile(r"(aws_[a-z0-9_]+\.[A-Za-z0-9_-]+)(.*)")
STEP = re.compile(r'\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]|\["([^"]*)"\]')
ACCOUNT, REGION = "000000000000", "us-east-1"
FORMS = {"issuer": "https://", "endpoint": "https://", "url": "https://", "aws_launch_template": "lt-"}
"""How texts of an attribute, or ids of a type, begin where the provider looks at that."""


def state_of(document: Json, plan: Json, schema: Schema) -> Json:
    """document: Terraform JSON; plan: of it, from nothing, as `terraform show -json` has it."""
    made = _Made(document, plan, schema)
    told = {"terraform_version": plan["terraform_version"], "serial": 1, "lineage": "program"}
    return {"version": VERSION, **told, "outputs": dict(made.outputs()), "resources": list(made.resources())}


def stand_ins(state: Json) -> dict[str, str]:
    """Each stand-in of a state, and the reference that it stands for: `${aws_vpc.main.id}`."""
    found: dict[str, str] = {}
    for item in state["resources"]:
        address = f"{item['type']}.{item['name']}"
        for path, text in _leaves(item["instances"][0]["attributes"]):
            if isinstance(text, str) and text.endswith(_hexes(_Place(address, path))):
                found[text] = f"${{{address}{spelled(path)}}}"
    return found


def spelled(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


@dataclass(frozen=True)
class _Place:
    """Where a value is: in which resource, along which path."""

    address: str
    path: Path

    def at(self, step: str | int) -> "_Place":
        return _Place(self.address, (*self.path, step))


class _Made:
    def __init__(self, document: Json, plan: Json, schema: Schema) -> None:
        self._document, self._schema = document, schema
        self._written = {f"{kind}.{name}": values for kind, named in document["resource"].items() for name, values in named.items()}
        self._changes = {item["address"]: item["change"] for item in plan["resource_changes"] if item["mode"] == "managed"}
        self._planned = plan["planned_values"]["root_module"]["resources"]
        self._wanted: dict[str, set[Path]] = defaultdict(set)
        for address, path in _references([document["resource"], document.get("output", {})]):
            self._wanted[address].add(path)
        self._known: dict[str, Json] = {}

    def resources(self) -> Iterator[Json]:
        for item in self._planned:
            address = item["address"]
            alias = self._written[address].get("provider", "aws").partition(".")[2]
            provider = f'provider["{item["provider_name"]}"]'
            sensitive = list(_marked(self._changes[address]["after_sensitive"]))
            instance = {
                "schema_version": item["schema_version"],
                "attributes": self._values(address),
                "sensitive_attributes": [[_told(step) for step in path] for path in sensitive],
            }
            yield {
                "mode": "managed",
                "type": item["type"],
                "name": item["name"],
                "provider": f"{provider}.{alias}" if alias else provider,
                "instances": [instance],
            }

    def outputs(self) -> Iterator[tuple[str, Json]]:
        for name, output in self._document.get("output", {}).items():
            value = self._evaluated(output["value"])
            yield name, {"value": value, "type": _type_of(value), "sensitive": output.get("sensitive", False)}

    def _values(self, address: str) -> Json:
        if address not in self._known:
            change, shape = self._changes[address], self._schema.resource(address.split(".")[0])
            filled = self._filled(change["after"], change["after_unknown"], self._written[address], shape, _Place(address, ()))
            self._known[address] = filled
        return self._known[address]

    def _filled(self, planned: Any, unknown: Any, written: Any, shape: Shape, place: _Place) -> Any:
        """The plan's value; what it does not know is evaluated from what is written, or else a stand-in."""
        if unknown is True:
            return self._stand_in(shape, place) if written is None else _as(self._evaluated(written), shape)
        if isinstance(unknown, dict) and isinstance(planned, dict):
            return self._filled_object(planned, unknown, written, shape, place)
        if isinstance(unknown, list) and isinstance(planned, list) and isinstance(shape, ListOf):
            return self._filled_list(planned, unknown, written, shape, place)
        return planned

    def _filled_object(self, planned: Json, unknown: Json, written: Any, shape: Shape, place: _Place) -> Json:
        source = written if isinstance(written, dict) else {}
        found = {}
        for key in planned.keys() | unknown.keys():
            inner = shape.fields[key] if isinstance(shape, Fields) else shape.item if isinstance(shape, MapOf) else shape
            found[key] = self._filled(planned.get(key), unknown.get(key, False), source.get(key), inner, place.at(key))
        return found

    def _filled_list(self, planned: list[Any], unknown: list[Any], written: Any, shape: ListOf, place: _Place) -> list[Any]:
        left = list(written) if isinstance(written, list) else []
        found = []
        for number, item in enumerate(planned):
            hidden = unknown[number] if number < len(unknown) else False
            # Items of a set come in the plan's order.
            match = next((other for other in left if shape.ordered or agree(other, item)), None)
            if match is not None:
                left.remove(match)
            found.append(self._filled(item, hidden, match, shape.item, place.at(number)))
        return found

    def _stand_in(self, shape: Shape, place: _Place) -> Any:
        """Where somebody refers to it, and of ids and ARNs; null elsewhere, for the provider judges what it reads."""
        if isinstance(shape, Plain):
            needed = place.path[-1] in ("id", "arn") or place.path in self._wanted[place.address]
            return _opaque(shape, place) if needed else None
        if isinstance(shape, Fields):
            return {key: self._stand_in(item, place.at(key)) for key, item in shape.fields.items()}
        steps = {path[len(place.path)] for path in self._wanted[place.address] if _within(path, place.path)}
        if isinstance(shape, MapOf):
            return {str(step): self._stand_in(shape.item, place.at(step)) for step in sorted(map(str, steps))}
        last = max((step for step in steps if isinstance(step, int)), default=-1)
        return [self._stand_in(shape.item, place.at(number)) for number in range(last + 1)]

    def _evaluated(self, written: Any) -> Any:
        if isinstance(written, dict):
            return {_literal(key): self._evaluated(item) for key, item in written.items()}
        if isinstance(written, list):
            return [self._evaluated(item) for item in written]
        if not isinstance(written, str):
            return written
        whole = TOKEN.fullmatch(written)
        if whole is not None and whole.group(1) and whole.group(1) != '"$"':
            return self._value(whole.group(1))
        return TOKEN.sub(self._text, written)

    def _text(self, token: re.Match[str]) -> str:
        if token.group(1) and token.group(1) != '"$"':
            return str(_as(self._value(token.group(1)), Plain("string")))
        return "$" if token.group(1) else token.group()[1:]

    def _value(self, expression: str) -> Any:
        if expression.startswith("var."):
            return IN_PLACE_OF_SECRETS[self._document["variable"][expression.removeprefix("var.")]["type"]]
        address, path = _target(expression)
        found: Any = self._values(address)
        for step in path:
            found = found[step]
        return found


def _target(expression: str) -> tuple[str, Path]:
    found = TARGET.fullmatch(expression)
    assert found is not None, f"{expression} is no reference of the document"
    return found.group(1), tuple(int(number) if number else name or quoted for name, number, quoted in STEP.findall(found.group(2)))


def _references(value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    if isinstance(value, str):
        yield from (_target(found) for found in TOKEN.findall(value) if found.startswith("aws_"))


def _within(path: Path, outer: Path) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _literal(text: str) -> str:
    return text.replace("$${", "${").replace("%%{", "%{")


def _opaque(shape: Plain, place: _Place) -> Any:
    if shape.kind != "string":
        return {"number": 1, "bool": False}.get(shape.kind)
    kind, name = place.address.split(".")
    service, hexes = kind.split("_")[1], _hexes(place)
    attribute = str(place.path[-1])
    if attribute.endswith("arn"):
        region = "" if service == "iam" else REGION
        return f"arn:aws:{service}:{region}:{ACCOUNT}:{kind.removeprefix(f'aws_{service}_')}/{name}-{hexes}"
    return f"{FORMS.get(attribute) or FORMS.get(kind) or f'{service}-'}{hexes}"


def _hexes(place: _Place) -> str:
    return sha256(f"{place.address} {place.path}".encode()).hexdigest()[:17]


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, step))
    else:
        yield path, value


def _as(value: Any, shape: Shape) -> Any:
    """As Terraform converts what is given where another type belongs."""
    if isinstance(shape, ListOf) and isinstance(value, list):
        return [_as(item, shape.item) for item in value]
    if isinstance(shape, MapOf) and isinstance(value, dict):
        return {key: _as(item, shape.item) for key, item in value.items()}
    if isinstance(shape, Fields) and isinstance(value, dict):
        return {key: _as(value.get(key), item) for key, item in shape.fields.items()}
    if isinstance(shape, Plain) and shape.kind == "string" and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def _marked(sensitive: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of what is sensitive, as a plan tells it: true in place of the value."""
    if sensitive is True:
        yield path
    items: Sequence[tuple[str | int, Any]] = ()
    if isinstance(sensitive, Mapping):
        items = list(sensitive.items())
    elif isinstance(sensitive, list):
        items = list(enumerate(sensitive))
    for step, item in items:
        yield from _marked(item, (*path, step))


def _told(step: str | int) -> Json:
    """A step of a path as a state spells it."""
    if isinstance(step, int):
        return {"type": "index", "value": {"value": step, "type": "number"}}
    return {"type": "get_attr", "value": step}


def _type_of(value: Any) -> Any:
    """The type of an output's value, as a state spells it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return ["tuple", [_type_of(item) for item in value]]
    if isinstance(value, dict):
        return ["object", {key: _type_of(item) for key, item in value.items()}]
    return "string"
