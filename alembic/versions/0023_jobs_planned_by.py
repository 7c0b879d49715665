"""Jobs know the plan that made them: how far a run of a transform is can be counted.

The indexes are built at once, as in 0020. Jobs that are there already belong to no run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_PLANNED = sa.text("planned_by IS NOT NULL")
_PLANS = sa.text("kind IN ('plan_collection_transform', 'plan_dataset_transform')")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("planned_by", sa.Uuid(), nullable=True))
    op.create_index("ix_jobs_planned_by", "jobs", ["planned_by", "state"], postgresql_where=_PLANNED)
    op.create_index(
        "ix_jobs_plans", "jobs", ["kind", "scope_id", "created_at", "job_id"], postgresql_where=_PLANS
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_plans", table_name="jobs", postgresql_where=_PLANS)
    op.drop_index("ix_jobs_planned_by", table_name="jobs", postgresql_where=_PLANNED)
    op.drop_column("jobs", "planned_by")
