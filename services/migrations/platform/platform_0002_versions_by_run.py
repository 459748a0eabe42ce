"""Registration finds the version of a run, and a model's high-risk versions, by an index."""

from alembic import op

revision = "platform_0002"
down_revision = "platform_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_model_versions_model_run_id", "model_versions", ["model", "run_id"], unique=False)
    op.create_index("ix_model_versions_model_risk_class", "model_versions", ["model", "risk_class"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_model_versions_model_risk_class", table_name="model_versions")
    op.drop_index("ix_model_versions_model_run_id", table_name="model_versions")
