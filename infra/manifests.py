"""Manifests of an environment that its program does not make: models and jobs, as builders in `services` wrote them."""

from pathlib import Path
from typing import Final

import yaml

from services.core.errors import BadInput
from services.core.kube import Object

FOLDERS: Final = ("inference", "jobs")


def manifests(root: Path, environment: str) -> tuple[Object, ...]:
    """All of `stacks/ENV/inference` and `stacks/ENV/jobs`, by file.

    Raises:
        BadInput: a file is no YAML, or holds something else than Kubernetes objects.
    """
    files = [path for folder in FOLDERS for path in sorted((root / "stacks" / environment / folder).glob("*.yaml"))]
    return tuple(item for path in files for item in _objects(path, str(path.relative_to(root))))


def _objects(path: Path, name: str) -> list[Object]:
    try:
        found = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise BadInput(f"{name} is not YAML: {error}") from error
    if not all(isinstance(item, dict) and {"apiVersion", "kind", "metadata"} <= item.keys() for item in found):
        raise BadInput(f"{name} holds something that is no Kubernetes object: write it with the builders in services")
    return found
