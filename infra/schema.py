"""What the AWS provider takes: attributes and blocks of each resource type, as the provider itself tells (see `terraform`).

Kept by provider version as one file a type, so that a program reads the few types it has and not all fifteen hundred.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from services.core.errors import NotFound


@dataclass(frozen=True)
class Plain:
    """kind: string, number, bool, or dynamic."""

    kind: str


@dataclass(frozen=True)
class ListOf:
    """A list or a set, of values or of blocks. Items of a set have no number."""

    item: "Shape"
    ordered: bool


@dataclass(frozen=True)
class MapOf:
    item: "Shape"


@dataclass(frozen=True)
class Fields:
    """An object. whole: Terraform wants every field of it, null where there is nothing to say; of a block it wants none."""

    fields: Mapping[str, "Shape"]
    whole: bool


Shape: TypeAlias = Plain | ListOf | MapOf | Fields


@dataclass(frozen=True)
class Schema:
    """folder: one file for each type, see `store`."""

    folder: Path

    def resource(self, kind: str) -> Fields:
        """Raises NotFound: the provider has no such type."""
        try:
            return _read(self.folder / f"{kind}.json")
        except FileNotFoundError as error:
            raise NotFound(f"the AWS provider has no resource type {kind!r}: correct the table of types") from error

    def provider(self) -> Fields:
        """Settings of the provider itself."""
        return _read(self.folder / "provider.json")


@functools.cache
def _read(file: Path) -> Fields:
    return _block(json.loads(file.read_text(encoding="utf-8")))


def store(told: Mapping[str, Any], folder: Path) -> None:
    """Writes one provider's part of `terraform providers schema -json` into an empty folder."""
    for kind, schema in (told["resource_schemas"] | {"provider": told["provider"]}).items():
        (folder / f"{kind}.json").write_text(json.dumps(schema["block"]), encoding="utf-8")


def _block(block: Mapping[str, Any]) -> Fields:
    attributes = {name: _attribute(item) for name, item in block.get("attributes", {}).items()}
    blocks = {name: _nested(item["nesting_mode"], _block(item["block"])) for name, item in block.get("block_types", {}).items()}
    return Fields(attributes | blocks, whole=False)


def _attribute(attribute: Mapping[str, Any]) -> Shape:
    nested = attribute.get("nested_type")
    return _typed(attribute["type"]) if nested is None else _nested(nested["nesting_mode"], _block(nested))


def _nested(mode: str, fields: Fields) -> Shape:
    if mode in ("list", "set"):
        return ListOf(fields, ordered=mode == "list")
    return MapOf(fields) if mode == "map" else fields


def _typed(told: Any) -> Shape:
    """A type as Terraform spells it: "string", ["list", TYPE], ["object", {NAME: TYPE}]."""
    if isinstance(told, str):
        return Plain(told)
    kind, of = told
    if kind in ("list", "set"):
        return ListOf(_typed(of), ordered=kind == "list")
    if kind == "map":
        return MapOf(_typed(of))
    return Fields({name: _typed(item) for name, item in of.items()}, whole=True)
