"""Bulk jobs over very many dead letters are looked at without reading all of their letters.

The causes of a list do not change once it is frozen, so they are kept; letters that made trouble have an
index. The release before leaves the causes empty: they are counted then.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dead_letter_bulks", sa.Column("causes", JSONB(), nullable=True))
    op.create_index(
        "ix_dead_letter_bulk_items_trouble",
        "dead_letter_bulk_items",
        ["bulk_id", "dead_letter_id"],
        postgresql_where=sa.text("state IN ('failed', 'skipped')"),
    )


def downgrade() -> None:
    op.drop_index("ix_dead_letter_bulk_items_trouble", table_name="dead_letter_bulk_items")
    op.drop_column("dead_letter_bulks", "causes")
