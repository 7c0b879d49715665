"""Jobs that wait for a moment, and where an imported dead letter comes from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("dead_letters", sa.Column("origin", sa.Text(), nullable=True))
    op.create_index(
        "ix_dead_letters_origin",
        "dead_letters",
        ["origin"],
        unique=False,
        postgresql_where=sa.text("origin IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_dead_letters_origin", table_name="dead_letters")
    op.drop_column("dead_letters", "origin")
    op.drop_column("jobs", "not_before")
