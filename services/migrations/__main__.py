"""`python -m services.migrations DATABASE MESSAGE` writes a revision: what the tables in code have and the revisions have not."""

import importlib
import sys
import tempfile
from pathlib import Path

from alembic import command

from services.core.database import open_engine
from services.core.migrations import FOLDER, config, upgrade

TABLES = {
    "platform": "services.api.tables",
    "audit": "services.audit.tables",
    "signing": "services.signing.tables",
    "router": "services.serving.router.tables",
}
"""Database → the module whose `metadata` describes it."""


def main(name: str, message: str) -> None:
    """Writes the revision into services/migrations/NAME."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/database.db")
        upgrade(engine, name)
        settings = config(name)
        settings.attributes["metadata"] = importlib.import_module(TABLES[name]).metadata
        number = len(list((FOLDER / name).glob("[0-9]*.py"))) + 1
        with engine.connect() as connection:
            settings.attributes["connection"] = connection
            command.revision(settings, message, autogenerate=True, rev_id=f"{name}_{number:04d}", version_path=str(FOLDER / name))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in TABLES:
        raise SystemExit(f"usage: python -m services.migrations {'|'.join(TABLES)} MESSAGE")
    Path(FOLDER / sys.argv[1]).mkdir(exist_ok=True)
    main(sys.argv[1], sys.argv[2])
