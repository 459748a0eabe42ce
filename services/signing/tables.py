"""signing.db: the proxy is its only reader and writer."""

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, MetaData, String, Table, Text

from services.core.outbox import outbox_table

metadata = MetaData()

outbox = outbox_table(metadata)

# One row for each payload under each key. It appears with `signature.requested` and is completed with `signature.made`.
signatures = Table(
    "signatures",
    metadata,
    Column("key", String(20), primary_key=True),
    Column("payload_digest", String(71), primary_key=True),
    Column("requested_event", String(80), ForeignKey("outbox.id"), nullable=False),
    Column("keyid", String(64), nullable=True),
    Column("signature", LargeBinary, nullable=True),
    Column("public_key", Text, nullable=True),
    Column("made_event", String(80), ForeignKey("outbox.id"), nullable=True),
    # Of a Manifest: which tree the manifest key may sign from now on.
    Column("oms_subject", String(71), nullable=True, index=True),
)

# The last checkpoint that was signed for each log, so that no later one can shrink or fork it.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("origin", String(200), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
)
