"""Every database is made by its revisions, and is then what the code says."""

import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from services.core.database import open_engine
from services.core.errors import Unavailable
from services.core.migrations import FOLDER, config, head, upgrade
from services.migrations.__main__ import TABLES
from tests.postgres import databases


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    yield from databases(tmp_path_factory.mktemp("postgres"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'database.db'}"
    made: str = request.getfixturevalue("postgres")()
    return made


def test_every_folder_of_revisions_has_its_tables_named() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_newest_revision_is_told_by_its_files_name(name: str) -> None:
    assert head(name) == ScriptDirectory.from_config(config(name)).get_current_head()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_after_the_upgrade_code_and_database_say_the_same(name: str, url: str) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = open_engine(url)
    upgrade(engine, name)
    metadata = importlib.import_module(TABLES[name]).metadata
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    upgrade(engine, name)
    engine.dispose()


def test_a_database_that_cannot_be_opened_is_told_as_retryable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="platform"):
        upgrade(open_engine(f"sqlite:///{tmp_path / 'absent' / 'database.db'}"), "platform")
