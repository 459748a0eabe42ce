"""Decisions and published bundles, in the platform's database."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table

from services.core.tables import metadata

decisions = Table(
    "decisions",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("action", String(100), nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("rules", LargeBinary, nullable=False),
    Column("policy_revision", String(80), nullable=False),
    Column("input_digest", String(80), nullable=False),
    Column("subject_kind", String(50), nullable=False),
    Column("subject_id", String(300), nullable=False, index=True),
    Column("subject_digest", String(80), nullable=True),
    Column("actor", String(300), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("event_id", String(80), nullable=False),
)
"""rules: canonical JSON of the reports; at: epoch milliseconds."""

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("revision", String(80), nullable=False, index=True),
    Column("bundle", String(80), nullable=False),
    Column("envelope", String(80), nullable=False),
    Column("actor", String(300), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("event_id", String(80), nullable=False),
)
"""Never changed; the row with the highest version is the active bundle. bundle, envelope: objects in the store."""
