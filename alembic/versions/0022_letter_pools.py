"""Dead letters of a pool, of a class of error and of a bulk job are found without reading the others.

The indexes are built at once, as in 0020.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_OF_A_BULK = sa.text("bulk_id IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_dead_letters_pool", "dead_letters", ["pool", "died_at", "dead_letter_id"])
    op.create_index(
        "ix_dead_letters_error_class", "dead_letters", ["error_class", "died_at", "dead_letter_id"]
    )
    op.create_index("ix_dead_letters_bulk_id", "dead_letters", ["bulk_id"], postgresql_where=_OF_A_BULK)


def downgrade() -> None:
    op.drop_index("ix_dead_letters_bulk_id", table_name="dead_letters", postgresql_where=_OF_A_BULK)
    op.drop_index("ix_dead_letters_error_class", table_name="dead_letters")
    op.drop_index("ix_dead_letters_pool", table_name="dead_letters")
