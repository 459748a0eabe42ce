"""The index of high-risk versions holds those alone: PostgreSQL took the wider one for the lookup of a run's version."""

import sqlalchemy as sa
from alembic import op

revision = "platform_0005"
down_revision = "platform_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_model_versions_model_risk_class", table_name="model_versions")
    high = sa.text("risk_class = 'high'")
    op.create_index("ix_model_versions_high", "model_versions", ["model"], postgresql_where=high, sqlite_where=high)


def downgrade() -> None:
    op.drop_index("ix_model_versions_high", table_name="model_versions")
    op.create_index("ix_model_versions_model_risk_class", "model_versions", ["model", "risk_class"], unique=False)
