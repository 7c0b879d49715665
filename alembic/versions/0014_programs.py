"""sessions of programs: what their refresh tokens share, the one that is good, the end of the access token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("family_hash", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("refresh_hash", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_unique_constraint(op.f("uq_sessions_family_hash"), "sessions", ["family_hash"])


def downgrade() -> None:
    # Without the columns the release before would take a program's access token for a browser's cookie.
    op.execute("DELETE FROM sessions WHERE family_hash IS NOT NULL")
    op.drop_constraint(op.f("uq_sessions_family_hash"), "sessions", type_="unique")
    op.drop_column("sessions", "access_expires_at")
    op.drop_column("sessions", "refresh_hash")
    op.drop_column("sessions", "family_hash")
