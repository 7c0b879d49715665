"""indexes for the sweeps.

Built at once and not CONCURRENTLY: that waits for every transaction that is open, and a second runner of the
migrations has one open while it waits for the first (see env.py), so Postgres would end one of the two. Writes
to these tables wait for the seconds that it takes, on files also reads: the order of its keys becomes that in
which a bucket is listed, for which the index of the keys is built anew, and nothing is rewritten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_index(
        "ix_file_extractions_pending",
        "file_extractions",
        ["collection_transform_id", "job_id"],
        postgresql_where=_PENDING,
    )
    op.create_index(
        "ix_item_embeddings_pending",
        "item_embeddings",
        ["embedded_dataset_id", "job_id"],
        postgresql_where=_PENDING,
    )
    op.alter_column("files", "object_key", existing_type=sa.Text(), type_=sa.Text(collation="C"))


def downgrade() -> None:
    op.alter_column("files", "object_key", existing_type=sa.Text(collation="C"), type_=sa.Text())
    op.drop_index("ix_item_embeddings_pending", table_name="item_embeddings", postgresql_where=_PENDING)
    op.drop_index("ix_file_extractions_pending", table_name="file_extractions", postgresql_where=_PENDING)
