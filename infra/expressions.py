"""A graph's values as those of Terraform JSON: in the provider's shape, references as references, all other text as it is.

A reference is `{"$ref": {"urn", "path"}}`, a text with some in it `{"$join": [...]}`, a secret `{"$secret": ...}`: see `graph`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.schema import Fields, ListOf, MapOf, Plain, Shape
from infra.table import attribute
from services.core.errors import BadInput

ANY = Plain("dynamic")
"""The shape of what the provider does not read: outputs of the program."""


@dataclass(frozen=True)
class Thing:
    """A resource that can be referred to. names: its row's in the table."""

    address: str
    names: Mapping[str, str]
    fields: Fields

    def path(self, path: Sequence[str | int]) -> tuple[str, Shape]:
        """Terraform's spelling of a path, as .scaling_config[0].desired_size, and the shape of what is there.

        Raises:
            BadInput: there is no such thing, or it is in a set, whose items cannot be told apart.
        """
        text, names = "", self.names
        found: Shape = self.fields
        for step in path:
            text, found = _step(text, found, step, names)
            names = {}
        return text, found


def _step(text: str, shape: Shape, step: str | int, names: Mapping[str, str]) -> tuple[str, Shape]:
    if isinstance(shape, ListOf):
        if not shape.ordered:
            raise BadInput(f"{step} is in a set, whose items have no number: use another attribute")
        if isinstance(step, int):
            return f"{text}[{step}]", shape.item
        # Pulumi has no list where there is one item at most.
        return _step(f"{text}[0]", shape.item, step, names)
    if isinstance(shape, MapOf):
        return f'{text}["{step}"]', shape.item
    if isinstance(shape, Fields) and isinstance(step, str):
        name = attribute(step, shape.fields, names)
        return f"{text}.{name}", shape.fields[name]
    raise BadInput(f"{step} is not in the provider's schema: a plain value has no parts")


@dataclass(frozen=True)
class Expressions:
    """things: by URN; variables: of the secrets met so far, by name."""

    things: Mapping[str, Thing]
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def encode(self, value: Any, shape: Shape, at: str) -> Any:
        """A value in its shape. at: what it is, for messages and for the names of secrets, as aws_db_instance.main.password.

        Raises:
            BadInput: it does not fit the shape, or refers to what there is not.
        """
        match value:
            case {"$secret": hidden}:
                return self.encode(self._hidden(hidden, shape, at), shape, at)
            case {"$variable": name}:
                return _wrapped(f"${{var.{name}}}", shape)
            case {"$ref": reference}:
                return self._reference(reference, shape, at)
            case {"$join": parts}:
                return _wrapped(self._joined(parts, at), shape)
            case dict():
                return self._object(value, shape, at)
            case list():
                return self._list(value, shape, at)
            case None:
                return None
        if isinstance(shape, Fields | MapOf) or (isinstance(shape, ListOf) and not isinstance(shape.item, Plain)):
            raise BadInput(f"{at}: {value!r} is given where an object belongs")
        return _wrapped(_scalar(value), shape)

    def _object(self, value: Mapping[str, Any], shape: Shape, at: str) -> Any:
        if isinstance(shape, ListOf):
            return [self.encode(value, shape.item, at)]
        if isinstance(shape, Fields):
            found: dict[str, Any] = dict.fromkeys(shape.fields) if shape.whole else {}
            for key, item in value.items():
                name = named(key, shape, {}, at)
                found[name] = self.encode(item, shape.fields[name], f"{at}.{key}")
            return found
        if isinstance(shape, Plain) and shape is not ANY:
            raise BadInput(f"{at}: an object is given where a {shape.kind} belongs")
        item_shape = shape.item if isinstance(shape, MapOf) else ANY
        return {escaped(key): self.encode(item, item_shape, f"{at}.{key}") for key, item in value.items()}

    def _list(self, value: Sequence[Any], shape: Shape, at: str) -> list[Any]:
        if not isinstance(shape, ListOf) and shape is not ANY:
            raise BadInput(f"{at}: a list is given where there is one item at most")
        item_shape = shape.item if isinstance(shape, ListOf) else ANY
        return [self.encode(item, item_shape, f"{at}.{number}") for number, item in enumerate(value)]

    def _reference(self, reference: Mapping[str, Any], shape: Shape, at: str) -> Any:
        text, found = self._expression(reference, at)
        if isinstance(shape, Fields) or (isinstance(shape, ListOf) and isinstance(shape.item, Fields)):
            raise BadInput(f"{at}: an object is given by reference: write it out, with references within")
        return f"${{{text}}}" if isinstance(found, ListOf) else _wrapped(f"${{{text}}}", shape)

    def _expression(self, reference: Mapping[str, Any], at: str) -> tuple[str, Shape]:
        thing = self.things.get(reference["urn"])
        if thing is None:
            raise BadInput(f"{at}: refers to {reference['urn']}, which is no AWS resource of this program")
        try:
            text, found = thing.path(reference["path"])
        except BadInput as error:
            raise BadInput(f"{at}: refers to {thing.address}: {error}") from error
        return f"{thing.address}{text}", found

    def _joined(self, parts: Sequence[Any], at: str) -> str:
        """Neighbouring literals are one text before it is escaped: `$` and `{` may come from two."""
        text, literal = "", ""
        for part in parts:
            if isinstance(part, str):
                literal += part
                continue
            # A dollar before a reference would escape it.
            ended = escaped(literal.removesuffix("$")) + '${"$"}' if literal.endswith("$") else escaped(literal)
            text, literal = f"{text}{ended}{self.encode(part, ANY, at)}", ""
        return text + escaped(literal)

    def _hidden(self, value: Any, shape: Shape, at: str) -> Any:
        """A secret without its literals: each is a sensitive variable now. What it refers to is no literal."""
        if isinstance(value, dict) and not value.keys() & {"$ref", "$secret"}:
            return {key: self._hidden(item, ANY, f"{at}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self._hidden(item, ANY, f"{at}.{number}") for number, item in enumerate(value)]
        if isinstance(value, dict):
            return value
        name = legal(f"secret_{at}")
        kind = shape.kind if isinstance(shape, Plain) and shape is not ANY else "string"
        self.variables[name] = {"type": kind, "sensitive": True}
        return {"$variable": name}


def named(key: str, shape: Fields, names: Mapping[str, str], at: str) -> str:
    try:
        return attribute(key, shape.fields, names)
    except BadInput as error:
        raise BadInput(f"{at}: {error}") from error


def escaped(text: str) -> str:
    """Text that Terraform takes as it is: policies have ${…} of their own."""
    return text.replace("${", "$${").replace("%{", "%%{")


def legal(name: str) -> str:
    """As a name of Terraform's."""
    spelled = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return spelled if re.match(r"[A-Za-z_]", spelled) else f"_{spelled}"


def _wrapped(value: Any, shape: Shape) -> Any:
    """Pulumi gives the item where there is one at most; Terraform wants a list all the same."""
    return [value] if isinstance(shape, ListOf) else value


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    # Numbers of the engine's protocol are all doubles.
    return int(value) if isinstance(value, float) and value.is_integer() else value
