"""embedded datasets that stand alone: of no dataset, no embedder and no transform."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLE = "embedded_datasets"
_PARENTS = ("dataset_transform_id", "source_dataset_id", "embedder_id")


def upgrade() -> None:
    for name in _PARENTS:
        op.alter_column(_TABLE, name, existing_type=sa.Integer(), nullable=True)
    op.create_check_constraint(
        op.f("ck_embedded_datasets_parents"),
        _TABLE,
        "num_nulls(dataset_transform_id, source_dataset_id, embedder_id) IN (0, 3)",
    )


def downgrade() -> None:
    op.execute("DELETE FROM embedded_datasets WHERE embedder_id IS NULL")
    op.drop_constraint(op.f("ck_embedded_datasets_parents"), _TABLE, type_="check")
    for name in _PARENTS:
        op.alter_column(_TABLE, name, existing_type=sa.Integer(), nullable=False)
