"""The audit database. The table of events is the truth of the log; tiles are rebuilt from it. Rows are only ever added."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint

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
