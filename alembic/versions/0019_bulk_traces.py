"""The request that began a bulk job, whose trace its replays go on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    trace = sa.Column("trace", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    op.add_column("dead_letter_bulks", trace)


def downgrade() -> None:
    op.drop_column("dead_letter_bulks", "trace")
