"""Serving's tables in the platform database: the desired state, which the router follows."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Integer, String, Table

from services.core.tables import metadata

DIGEST = String(71)
NAME = String(100)
ID = String(80)

deployments = Table(
    "deployments",
    metadata,
    Column("id", ID, primary_key=True),
    Column("model", NAME, nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("environment", String(10), nullable=False),
    Column("artifact_id", DIGEST, nullable=False),
    Column("files", JSON, nullable=False),
    Column("manifest", DIGEST, nullable=False),
    Column("manifest_ref", DIGEST, nullable=False),
    Column("bundle", DIGEST, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("reason", String(2000), nullable=False),
    Column("decision_id", String(100), nullable=False),
    Column("created_by", String(250), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("environment", String(10), primary_key=True),
    Column("model", NAME, primary_key=True),
    Column("stable", ID, ForeignKey("deployments.id"), nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("model", NAME, nullable=False, index=True),
    Column("environment", String(10), nullable=False),
    Column("stable", ID, ForeignKey("deployments.id"), nullable=False),
    Column("canary", ID, ForeignKey("deployments.id"), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("since", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("weight", Float, nullable=False),
    Column("seed", String(64), nullable=False),
    Column("rule", JSON, nullable=True),
    Column("verdict", JSON, nullable=True),
    Column("counts", JSON, nullable=True),
    Column("reason", String(2000), nullable=False),
    Column("event", ID, nullable=True),
    Column("created_by", String(250), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

rollout_pairs = Table(
    "rollout_pairs",
    metadata,
    Column("rollout", ID, ForeignKey("rollouts.id"), primary_key=True),
    Column("probe", String(200), primary_key=True),
    Column("label", String(200), nullable=False),
    Column("stable_right", Boolean, nullable=False),
    Column("canary_right", Boolean, nullable=False),
)

prediction_batches = Table(
    "prediction_batches",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("batch", ID, nullable=False, unique=True),
    Column("deployment", ID, ForeignKey("deployments.id"), nullable=False),
    Column("object", DIGEST, nullable=False),
    Column("root", DIGEST, nullable=False),
    Column("records", Integer, nullable=False),
    Column("first", ID, nullable=True, index=True),
    Column("last", ID, nullable=True),
    Column("event", ID, nullable=False),
)
"""Sealed batches that predictors of a cluster handed on; first, last: of the ids in it, as they sort, null when it is empty."""
