"""Batches of prediction records, which predictors of a cluster hand on."""

import sqlalchemy as sa
from alembic import op

revision = "platform_0003"
down_revision = "platform_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prediction_batches",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.String(80), nullable=False),
        sa.Column("deployment", sa.String(80), nullable=False),
        sa.Column("object", sa.String(71), nullable=False),
        sa.Column("root", sa.String(71), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("first", sa.String(80), nullable=True),
        sa.Column("last", sa.String(80), nullable=True),
        sa.Column("event", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["deployment"], ["deployments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch"),
    )
    op.create_index("ix_prediction_batches_first", "prediction_batches", ["first"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_prediction_batches_first", table_name="prediction_batches")
    op.drop_table("prediction_batches")
