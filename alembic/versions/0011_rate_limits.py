"""rate limits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("empty_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_rate_limits")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_rate_limits_empty_at", "rate_limits", ["empty_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_rate_limits_empty_at", table_name="rate_limits")
    op.drop_table("rate_limits")
