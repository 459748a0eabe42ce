"""Brings a database to the newest schema (Alembic). Each database has a folder of revisions in services/migrations."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect

from services.core.database import transactional
from services.core.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def config(name: str) -> "Config":
    """Alembic's configuration. name: platform, audit, signing or router."""
    from alembic.config import Config

    found = Config()
    found.set_main_option("script_location", str(FOLDER))
    found.set_main_option("version_locations", str(FOLDER / name))
    found.set_main_option("path_separator", "newline")
    return found


def upgrade(engine: Engine, name: str) -> None:
    """Runs the missing revisions, each in a transaction of its own; a crash leaves the last finished one.

    Raises:
        Unavailable: the database did not answer or is locked; retry.
    """
    try:
        with transactional(engine) as connection:
            if _revision(connection) == head(name):
                return
            # Imported when there is something to do: it takes a third of a process's start, and memory for good.
            from alembic import command

            settings = config(name)
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
            connection.commit()
    except Unavailable as error:
        raise Unavailable(f"the {name} database cannot be migrated: {error}") from error


def head(name: str) -> str:
    """The newest revision of a database; files are named by their revisions, which are numbered."""
    newest = max((FOLDER / name).glob(f"{name}_*.py")).stem
    return "_".join(newest.split("_")[:2])


def _revision(connection: Connection) -> str | None:
    """What the database is at; None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found
