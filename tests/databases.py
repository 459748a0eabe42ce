"""Where the tests' databases lie: SQLite files, or databases of a PostgreSQL server with TEST_DATABASE=postgresql.

Which it is, a test does not say that leaves it open: its file is one of those that `make test-postgresql` runs on PostgreSQL.
"""

import atexit
import functools
import itertools
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from tests.peers import ROOT
from tests.postgres import start

CHOICE = os.environ.get("TEST_DATABASE", "sqlite")
"""sqlite or postgresql: for databases of which a test does not say it."""
ON_SQLITE_ONLY = {
    "tests/contract/test_compute.py": "minutes of Ray and of a Kubernetes API server; test_training_service has its database",
    "tests/integration/test_training_ray.py": "as test_compute",
    "tests/kube/test_training_kuberay.py": "as test_compute",
    "tests/faults/test_disk.py": "what is full there is a disk of this process; PostgreSQL's is its server's, and has a test there",
}
"""Files of tests whose databases follow the choice and that `make test-postgresql` leaves out, with the reason."""
followed: list[Path] = []
"""Folders of databases for which the choice was followed, since somebody emptied it."""
_engines = weakref.WeakSet[Engine]()


@event.listens_for(Engine, "engine_connect")
def _note(connection: Connection) -> None:
    _engines.add(connection.engine)


def close_idle() -> None:
    """Closes what the pools of all engines keep open: those of tests that ended would use up the server's connections until
    Python collects them. An engine that goes on connects anew."""
    for engine in list(_engines):
        engine.dispose()


def drop_ended() -> None:
    """Drops the databases whose folder is gone, as that of a test which passed: hundreds, of 8 MB each, fill a small disk."""
    if _server.cache_info().currsize:
        _server().drop_ended()


def require_listed(file: str) -> None:
    """file: one of tests, below the root, whose databases follow the choice. Raises AssertionError: PostgreSQL would not see it."""
    listed = re.findall(r"tests/\S+\.py", (ROOT / "Makefile").read_text())
    remedy = "add it to ON_POSTGRESQL in the Makefile, or to ON_SQLITE_ONLY in tests/databases.py with the reason"
    assert file in listed or file in ON_SQLITE_ONLY, f"databases of {file} follow TEST_DATABASE: {remedy}"


def url(folder: Path, name: str, choice: str | None = None) -> str:
    """The SQLAlchemy URL of a folder's database. A folder that was copied has a copy of the other's database, as with SQLite.

    choice: sqlite or postgresql; None follows CHOICE.
    """
    if choice is None:
        followed.append(folder)
    if (choice or CHOICE) == "sqlite":
        return f"sqlite:///{folder / name}.db"
    # The marker says whose the database is; a copied marker names the folder that it was copied from.
    marker = folder / f"{name}.postgresql"
    owner, database = marker.read_text().split("\n") if marker.exists() else ("", "template1")
    if owner != str(folder):
        database = _server().create(template=database, owner=folder)
        marker.write_text(f"{folder}\n{database}")
    return _server().url(database)


class Server:
    """One PostgreSQL for the whole run of tests."""

    def __init__(self) -> None:
        self._folder, self._numbers = tempfile.mkdtemp(prefix="ai-infra-postgresql-"), itertools.count()
        self._wheel: Any = start(Path(self._folder))
        self._connection = psycopg.connect(self._wheel.get_uri(), autocommit=True)
        # The tests' databases survive no power failure, which nobody needs them to, and none lives long enough to be vacuumed.
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            self._connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[call-overload]
        self._connection.execute("SELECT pg_reload_conf()")
        self._owners: dict[str, Path] = {}

    def create(self, template: str, owner: Path) -> str:
        """The name of a new database of that folder. Sessions of the template are ended: it could not be copied else."""
        name = f"test{next(self._numbers)}"
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        self._connection.execute(ended, (template,))
        self._connection.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY FILE_COPY')  # type: ignore[call-overload]
        self._owners[name] = owner
        return name

    def drop_ended(self) -> None:
        for name in [name for name, owner in self._owners.items() if not owner.exists()]:
            self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]
            del self._owners[name]

    def url(self, database: str) -> str:
        return str(self._wheel.get_uri(database)).replace("postgresql://", "postgresql+psycopg://", 1)

    def close(self) -> None:
        self._connection.close()
        self._wheel.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def _server() -> Server:
    server = Server()
    atexit.register(server.close)
    return server
