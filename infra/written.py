"""What people wrote down: exceptions from the infra rules, and checks of checkov that do not apply. Each says why.

stacks/exceptions.yaml and infra/checkov-skips.yaml; each entry is for exact things in exact stacks. Whether it is still
needed is found out by the check that would use it.
"""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.core.errors import BadInput

Text = Annotated[str, Field(min_length=1)]
Stack = Annotated[str, Field(pattern=r"^(dev|staging|prod)-(ground|platform|apps)$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenException(_Model):
    """resource: address, for a statement of a policy `ADDRESS#SID`; expires: the last day, UTC."""

    rule: Literal["infra.destruction", "infra.iam-wildcards"]
    resource: Text
    stacks: Annotated[tuple[Stack, ...], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=20)]
    approved_by: Text
    expires: date

    def to_fact(self) -> dict[str, Any]:
        end = datetime.combine(self.expires, time(23, 59, 59), UTC)
        return {
            "rule": self.rule,
            "resource": self.resource,
            "reason": self.reason,
            "approvedBy": self.approved_by,
            "expires": int(end.timestamp()),
        }


class Skip(_Model):
    """A check of checkov that these resources fail for a good reason. check: as CKV_AWS_18."""

    check: Annotated[str, Field(pattern=r"^CKV2?_[A-Z]+_[0-9]+$")]
    resources: Annotated[tuple[Text, ...], Field(min_length=1)]
    stacks: Annotated[tuple[Stack, ...], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=20)]


class _Exceptions(_Model):
    exceptions: tuple[WrittenException, ...]


class _Skips(_Model):
    skips: tuple[Skip, ...]


Model = TypeVar("Model", _Exceptions, _Skips)


def exceptions(path: Path, stack: str) -> list[WrittenException]:
    """Those of one stack. Raises BadInput, naming file and field."""
    return [item for item in _read(path, _Exceptions).exceptions if stack in item.stacks]


def skips(path: Path, stack: str) -> dict[tuple[str, str], Skip]:
    """By check and resource, those of one stack. Raises BadInput, naming file and field."""
    entries = [item for item in _read(path, _Skips).skips if stack in item.stacks]
    return {(item.check, resource): item for item in entries for resource in item.resources}


def _read(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error
