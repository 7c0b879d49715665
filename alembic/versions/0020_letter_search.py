"""Dead letters are found by their words, their queue and their attempts.

The indexes are built at once, as in 0005; letters that are indexed meanwhile wait for the seconds that it takes. The
words of rows that are there already come from the next sweep (app/jobs/letter_index.py).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_WORDLESS = sa.text("words IS NULL")


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("document", sa.Text(), nullable=True))
    op.add_column("dead_letters", sa.Column("words", TSVECTOR(), nullable=True))
    op.create_index("ix_dead_letters_words", "dead_letters", ["words"], postgresql_using="gin")
    op.create_index(
        "ix_dead_letters_wordless", "dead_letters", ["dead_letter_id"], postgresql_where=_WORDLESS
    )
    op.create_index("ix_dead_letters_queue", "dead_letters", ["queue", "died_at", "dead_letter_id"])
    op.create_index("ix_dead_letters_attempts", "dead_letters", ["attempts", "died_at"])


def downgrade() -> None:
    op.drop_index("ix_dead_letters_attempts", table_name="dead_letters")
    op.drop_index("ix_dead_letters_queue", table_name="dead_letters")
    op.drop_index("ix_dead_letters_wordless", table_name="dead_letters", postgresql_where=_WORDLESS)
    op.drop_index("ix_dead_letters_words", table_name="dead_letters", postgresql_using="gin")
    op.drop_column("dead_letters", "words")
    op.drop_column("dead_letters", "document")
