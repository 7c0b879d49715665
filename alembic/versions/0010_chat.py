"""chat, and full-text search.

The index of words is built at once and not CONCURRENTLY, as in 0005: writes of passages wait for it, about a
minute for a million passages.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _timestamps() -> tuple[sa.Column[object], sa.Column[object]]:
    created, updated = (
        sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
        for name in ("created_at", "updated_at")
    )
    return created, updated


def upgrade() -> None:
    op.create_table(
        "chat_sessions",
        sa.Column("session_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("embedded_dataset_id", sa.Integer(), nullable=True),
        sa.Column("llm_id", sa.Integer(), nullable=True),
        sa.Column("owner_id", sa.Text(), nullable=False),
        *_timestamps(),
        sa.ForeignKeyConstraint(
            ["embedded_dataset_id"],
            ["embedded_datasets.embedded_dataset_id"],
            name=op.f("fk_chat_sessions_embedded_dataset_id_embedded_datasets"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["llm_id"], ["llms.llm_id"], name=op.f("fk_chat_sessions_llm_id_llms"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["owners.owner_id"],
            name=op.f("fk_chat_sessions_owner_id_owners"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_chat_sessions")),
    )
    for column in ("embedded_dataset_id", "llm_id", "owner_id"):
        op.create_index(op.f(f"ix_chat_sessions_{column}"), "chat_sessions", [column])
    op.create_table(
        "chat_messages",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("was_cut", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        *_timestamps(),
        sa.CheckConstraint("role IN ('user', 'assistant')", name=op.f("ck_chat_messages_role")),
        sa.CheckConstraint(
            "status IN ('complete', 'incomplete', 'error')", name=op.f("ck_chat_messages_status")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["chat_sessions.session_id"],
            name=op.f("fk_chat_messages_session_id_chat_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_chat_messages")),
    )
    op.create_index("ix_chat_messages_session_id_message_id", "chat_messages", ["session_id", "message_id"])
    op.create_table(
        "chat_citations",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("similarity_score", sa.REAL(), nullable=False),
        sa.Column("is_cited", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["chat_messages.message_id"],
            name=op.f("fk_chat_citations_message_id_chat_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", "number", name=op.f("pk_chat_citations")),
    )
    op.execute(
        "CREATE INDEX ix_chunks_words ON chunks USING gin (to_tsvector('simple'::regconfig, left(text, 100000)))"
    )


def downgrade() -> None:
    op.execute("DROP INDEX ix_chunks_words")
    op.drop_table("chat_citations")
    op.drop_table("chat_messages")
    op.drop_table("chat_sessions")
