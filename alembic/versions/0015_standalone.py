"""Embedded datasets that stand alone: no transform, no dataset, and perhaps no embedder."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_NAME = "ck_embedded_datasets_standalone"
_RULE = (
    "(dataset_transform_id IS NULL) = (source_dataset_id IS NULL) "
    "AND (embedder_id IS NOT NULL OR dataset_transform_id IS NULL)"
)


def upgrade() -> None:
    for column in ("dataset_transform_id", "source_dataset_id", "embedder_id"):
        op.alter_column("embedded_datasets", column, nullable=True)
    op.create_check_constraint(op.f(_NAME), "embedded_datasets", _RULE)


def downgrade() -> None:
    """Those that stand alone are gone then: the release before has no place for them."""
    op.execute("DELETE FROM embedded_datasets WHERE dataset_transform_id IS NULL")
    op.drop_constraint(op.f(_NAME), "embedded_datasets", type_="check")
    for column in ("dataset_transform_id", "source_dataset_id", "embedder_id"):
        op.alter_column("embedded_datasets", column, nullable=False)
