"""The audit database. The table of events is the truth of the log; tiles are rebuilt from it. Rows are only ever added."""

from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Index, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint, insert

from services.core.logentry import MAX_TEXT

metadata = MetaData()

# SQLite makes the primary key its row id, so that the log is stored in order, only when the type is INTEGER.
BIG = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("index", BIG, primary_key=True, autoincrement=False),
    Column("id", String(MAX_TEXT), nullable=False, unique=True),
    Column("source", String(MAX_TEXT), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("type", String(MAX_TEXT), nullable=False),
    Column("subject_kind", String(MAX_TEXT), nullable=False),
    Column("subject_id", String(MAX_TEXT), nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    UniqueConstraint("source", "seq"),
    Index("events_by_subject", "subject_id", "index"),
    Index("events_by_type", "type", "index"),
)


def insert_sql(engine: Engine) -> str:
    """The insert of one row as the engine's driver takes it, with values in the order of the columns.

    SQLAlchemy takes longer to put the statement together for each call than the database takes to insert the row.
    """
    dialect: Any = type(engine.dialect)
    style = "qmark" if engine.dialect.name == "sqlite" else "format"
    return str(insert(events).compile(dialect=dialect(paramstyle=style)))
