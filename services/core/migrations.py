"""Brings a database to the newest schema (Alembic). Each database has a folder of revisions in services/migrations."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from services.core.errors import Unavailable

FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def config(name: str) -> Config:
    """Alembic's configuration. name: platform, audit, signing or router."""
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
    settings = config(name)
    try:
        with engine.connect() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
            connection.commit()
    except Unavailable as error:
        raise Unavailable(f"the {name} database cannot be migrated: {error}") from error
