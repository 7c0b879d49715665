"""An owner's piles of held jobs take turns: the index leads from pile to pile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_HELD = sa.text("held AND state = 'pending'")
_OWNER, _PILE, _AGE = ["queue", "owner_id"], ["scope_kind", "scope_id"], ["created_at", "job_id"]


def upgrade() -> None:
    _replace([*_OWNER, *_PILE, *_AGE])


def downgrade() -> None:
    _replace([*_OWNER, *_AGE])


def _replace(columns: list[str]) -> None:
    op.drop_index("ix_jobs_held", table_name="jobs", postgresql_where=_HELD)
    op.create_index("ix_jobs_held", "jobs", columns, postgresql_where=_HELD)
