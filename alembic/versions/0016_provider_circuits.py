"""provider_circuits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_circuits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("open_seconds", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_provider_circuits")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_provider_circuits_updated_at", "provider_circuits", ["updated_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_provider_circuits_updated_at", table_name="provider_circuits")
    op.drop_table("provider_circuits")
