"""The registry's tables in the platform database. Bytes lie in the object store; rows hold their digests."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String, Table, UniqueConstraint, text

from services.core.tables import metadata

DIGEST = String(71)
NAME = String(100)
HIGH_RISK = text("risk_class = 'high'")
"""With the value written out: databases take an index of some rows for a query only if they see which rows that wants."""

datasets = Table(
    "datasets",
    metadata,
    Column("id", DIGEST, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("version", String(50), nullable=False),
    Column("licence", String(100), nullable=False),
    Column("pii", String(10), nullable=False),
    Column("parents", JSON, nullable=False),
    Column("registered_by", String(250), nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    UniqueConstraint("name", "version"),
)

dataset_approvals = Table(
    "dataset_approvals",
    metadata,
    Column("payload", DIGEST, primary_key=True),
    Column("dataset", DIGEST, nullable=False, index=True),
    Column("envelope", DIGEST, nullable=False),
    Column("approved_by", String(250), nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("run_id", String(100), nullable=True),
    Column("meta", JSON, nullable=False),
    Column("uploaded_by", String(250), nullable=False),
    Column("uploaded_at", BigInteger, nullable=False),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("model", NAME, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("artifact_id", DIGEST, nullable=False, index=True),
    Column("run_id", String(100), nullable=False),
    Column("run_key", DIGEST, nullable=False),
    Column("risk_class", String(10), nullable=False),
    Column("stage", String(10), nullable=False),
    Column("code_ref", JSON, nullable=False),
    Column("datasets", JSON, nullable=False),
    Column("ancestors", JSON, nullable=False),
    Column("parents", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("signer_id", String(64), nullable=True),
    Column("signature", DIGEST, nullable=True),
    Column("provenance", DIGEST, nullable=False),
    Column("registered_by", String(250), nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    # What each registration looks up: without them it would read every version of the model.
    Index("ix_model_versions_model_run_id", "model", "run_id"),
    Index("ix_model_versions_high", "model", postgresql_where=HIGH_RISK, sqlite_where=HIGH_RISK),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("payload", DIGEST, primary_key=True),
    Column("envelope", DIGEST, nullable=False),
    Column("artifact_id", DIGEST, nullable=False, index=True),
    Column("dataset", DIGEST, nullable=False),
    Column("split", String(50), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("request", DIGEST, nullable=False, unique=True),
    Column("envelope", DIGEST, nullable=False),
    Column("model", NAME, nullable=False),
    Column("number", Integer, nullable=False),
    Column("to_stage", String(10), nullable=False),
    Column("state", String(12), nullable=False),
    Column("decision_id", String(100), nullable=True),
    Column("summary", DIGEST, nullable=True),
    Column("requested_by", String(250), nullable=False),
    Column("requested_at", BigInteger, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("payload", DIGEST, primary_key=True),
    Column("envelope", DIGEST, nullable=False),
    Column("bundle", DIGEST, nullable=False),
    Column("model", NAME, nullable=False),
    Column("number", Integer, nullable=False),
    Column("environment", String(10), nullable=False),
    Column("promotion", String(80), nullable=False, unique=True),
)

flags = Table(
    "flags",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("target", String(200), nullable=False, index=True),
    Column("reason", String(2000), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("set_by", String(250), nullable=False),
    Column("clearance", DIGEST, nullable=True),
)
