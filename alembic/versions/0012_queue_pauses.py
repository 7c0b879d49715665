"""queue_pauses, and indexes by which jobs are found by the time of their beginning and end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queue_pauses",
        sa.Column("queue_pause_id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("queue_pause_id", name=op.f("pk_queue_pauses")),
    )
    op.create_index(
        "ix_queue_pauses_queue_queue_pause_id", "queue_pauses", ["queue", "queue_pause_id"], unique=False
    )
    op.create_index("ix_jobs_created_at_job_id", "jobs", ["created_at", "job_id"], unique=False)
    op.create_index(
        "ix_jobs_dead",
        "jobs",
        ["created_at", "job_id"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "ix_jobs_finished_at",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index("ix_jobs_dead", table_name="jobs")
    op.drop_index("ix_jobs_created_at_job_id", table_name="jobs")
    op.drop_index("ix_queue_pauses_queue_queue_pause_id", table_name="queue_pauses")
    op.drop_table("queue_pauses")
