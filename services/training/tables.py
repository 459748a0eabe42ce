"""Training's table in the platform database. Bytes lie in the object store; rows hold their digests."""

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table

from services.core.tables import metadata

DIGEST = String(71)

runs = Table(
    "runs",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("run_key", DIGEST, nullable=False, index=True),
    Column("state", String(12), nullable=False, index=True),
    Column("job", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("rerun_of", String(100), nullable=True),
    Column("decision_id", String(100), nullable=False),
    Column("artifact_id", DIGEST, nullable=True),
    Column("provenance", DIGEST, nullable=True),
    Column("metrics", JSON, nullable=False),
    Column("error", String(2000), nullable=True),
    Column("started_by", String(250), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=True),
)
"""inputs: the seven that `run_key` is the digest of; provenance: digest of the signed envelope; times: epoch milliseconds."""
