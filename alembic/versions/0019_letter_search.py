"""Dead letters are found by their words and by their queue.

The indexes are built at once, as in 0005; letters that are indexed meanwhile wait for the seconds that it takes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_MARKS = "chr(9) || chr(10) || chr(13) || chr(37) || '!\"#$&''()*+,-./:;<=>?@[\\]^_`{|}~'"
_TEXT = (
    "left(coalesce(actor, ''), 200) || ' ' || left(coalesce(owner_id, ''), 200) || ' ' || "
    "left(coalesce(error_class, ''), 200) || ' ' || left(error_message, 400) || ' ' || "
    "left(coalesce(document, ''), 400)"
)
_WORDS = (
    f"array_to_tsvector(array_remove(string_to_array(translate(lower({_TEXT}), {_MARKS}, repeat(' ', 40)), "
    "' '), ''))"
)


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("document", sa.Text(), nullable=True))
    op.create_index("ix_dead_letters_words", "dead_letters", [sa.text(_WORDS)], postgresql_using="gin")
    op.create_index("ix_dead_letters_queue", "dead_letters", ["queue", "died_at", "dead_letter_id"])


def downgrade() -> None:
    op.drop_index("ix_dead_letters_queue", table_name="dead_letters")
    op.drop_index("ix_dead_letters_words", table_name="dead_letters", postgresql_using="gin")
    op.drop_column("dead_letters", "document")
