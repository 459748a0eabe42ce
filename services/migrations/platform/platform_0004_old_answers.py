"""Remembered answers that are old are found by an index, to be deleted; errors are remembered no longer."""

from alembic import op

revision = "platform_0004"
down_revision = "platform_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM idempotency WHERE status >= 400")
    op.create_index("ix_idempotency_at", "idempotency", ["at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_idempotency_at", table_name="idempotency")
