"""The reviewed table of types (types.yaml), and how a property of Pulumi finds its attribute in the provider's schema.

Types are never guessed: rds.ParameterGroup is aws_db_parameter_group, and there is an aws_rds_cluster_parameter_group beside it.
Names are camel case in Pulumi, lists plural, and lists of one item at most neither list nor plural.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from services.core.errors import BadInput

FILE = Path(__file__).parent / "types.yaml"


@dataclass(frozen=True)
class Row:
    """type: Terraform's; names: property → attribute, of those that do not follow from the spelling."""

    type: str
    names: Mapping[str, str] = field(default_factory=dict)


Rows = Mapping[str, Row]
"""By Pulumi's token, as aws:s3/bucketV2:BucketV2."""


@functools.cache
def table() -> Rows:
    return read_table(FILE)


def read_table(file: Path) -> Rows:
    read = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {token: Row(row) if isinstance(row, str) else Row(row["type"], row["names"]) for token, row in read.items()}


def attribute(name: str, known: Iterable[str], names: Mapping[str, str]) -> str:
    """The attribute or block that a property of Pulumi is. Raises BadInput where none or several could be meant."""
    if name in names:
        return names[name]
    wanted = _bare(name)
    bare = {other: _bare(other) for other in known}
    found = [other for other, text in bare.items() if text == wanted]
    found = found or [other for other, text in bare.items() if wanted in _plurals(text) or text in _plurals(wanted)]
    if len(found) != 1:
        what = f"could be {' or '.join(sorted(found))}" if found else "is not in the provider's schema"
        raise BadInput(f"{name} {what}: give its name in {FILE.name}, or correct the program")
    return found[0]


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _plurals(text: str) -> tuple[str, ...]:
    return (text + "s", text + "es", text.removesuffix("y") + "ies")
