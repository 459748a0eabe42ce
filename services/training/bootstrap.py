"""Opens training's backends. The API process's own bootstrap joins the result with the other services."""

import os
from collections.abc import Callable
from pathlib import Path

from services.core import backends as register
from services.core.digests import sha256_file
from services.core.errors import BadSetting
from services.core.objects import ObjectStore
from services.training import backends
from services.training.environment import Environment
from services.training.evaluation import ProcessEvaluator
from services.training.ports import ComputeBackend
from services.training.service import Site


def open_compute(name: str, folder: Path, store: ObjectStore, *, env: str) -> ComputeBackend:
    """The compute backend of that name. Raises BadSetting for an unknown one, or a development one in prod."""
    found: ComputeBackend = register.load(backends, name, env=env).open_compute(folder, store, os.environ)
    return found


def open_evaluator(store: ObjectStore) -> ProcessEvaluator:
    return ProcessEvaluator(store, os.environ)


def open_site(builder: str, lock: Path, environment: Callable[[], Environment]) -> Site:
    """builder: SPIFFE URI in the provenance; lock: the hashed requirements file that training's environment was installed from;
    environment: what the compute backend says of it.

    Raises:
        BadSetting: there is no such file.
    """
    if not lock.is_file():
        raise BadSetting(f"no dependency lock at {lock}: set AI_INFRA_LOCK to the requirements file that was installed")
    return Site(builder=builder, environment=environment, lock=_lock(lock))


def _lock(path: Path) -> Callable[[], str]:
    return lambda: sha256_file(path)
