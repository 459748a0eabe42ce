"""Tables of router.db, owned by the router process: sealed batches of prediction records, and its outbox."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table

from services.core.outbox import outbox_table

metadata = MetaData()

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("segment", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("records", Integer, nullable=False),
    Column("root", String(71), nullable=False),
    Column("event", String(80), nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=False),
    Column("position", Integer, nullable=False),
)

outbox = outbox_table(metadata)
