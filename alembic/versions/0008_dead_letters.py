"""dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


# Counts by cause. Rows are locked in one order, because two who end letters of several causes at once would
# otherwise wait for each other.
_COUNT = """
CREATE FUNCTION dead_letters_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO dead_letter_groups AS known (
            owner_id, fingerprint, error_class, cause, reason, actor, queue, pool,
            open_count, total_count, first_seen_at, last_seen_at)
        SELECT coalesce(owner_id, '') AS owner, fingerprint, max(error_class), max(cause), max(reason),
            max(actor), max(queue), max(pool), count(*) FILTER (WHERE state = 'open'), count(*),
            min(died_at), max(died_at)
        FROM fresh GROUP BY owner, fingerprint ORDER BY owner, fingerprint
        ON CONFLICT (owner_id, fingerprint) DO UPDATE SET
            open_count = known.open_count + excluded.open_count,
            total_count = known.total_count + excluded.total_count,
            first_seen_at = least(known.first_seen_at, excluded.first_seen_at),
            last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at),
            reason = excluded.reason, actor = excluded.actor, queue = excluded.queue, pool = excluded.pool;
        INSERT INTO dead_letter_hours AS known (owner_id, fingerprint, hour, died)
        SELECT coalesce(owner_id, '') AS owner, fingerprint, date_trunc('hour', died_at) AS at, count(*)
        FROM fresh GROUP BY owner, fingerprint, at ORDER BY owner, fingerprint, at
        ON CONFLICT (owner_id, fingerprint, hour) DO UPDATE SET died = known.died + excluded.died;
    ELSIF TG_OP = 'UPDATE' THEN
        WITH changed AS (
            SELECT owner, fingerprint, sum(opened) AS opened FROM (
                SELECT coalesce(owner_id, '') AS owner, fingerprint, -1 AS opened FROM gone WHERE state = 'open'
                UNION ALL
                SELECT coalesce(owner_id, ''), fingerprint, 1 FROM fresh WHERE state = 'open'
            ) AS each GROUP BY owner, fingerprint HAVING sum(opened) <> 0
        ), held AS MATERIALIZED (
            SELECT known.owner_id, known.fingerprint, changed.opened FROM dead_letter_groups AS known
            JOIN changed ON (known.owner_id, known.fingerprint) = (changed.owner, changed.fingerprint)
            ORDER BY known.owner_id, known.fingerprint FOR UPDATE OF known
        )
        UPDATE dead_letter_groups AS known SET open_count = known.open_count + held.opened
        FROM held WHERE (known.owner_id, known.fingerprint) = (held.owner_id, held.fingerprint);
    ELSE
        WITH changed AS (
            SELECT coalesce(owner_id, '') AS owner, fingerprint, count(*) AS gone,
                count(*) FILTER (WHERE state = 'open') AS opened
            FROM gone GROUP BY owner, fingerprint
        ), held AS MATERIALIZED (
            SELECT known.owner_id, known.fingerprint, changed.opened, changed.gone
            FROM dead_letter_groups AS known
            JOIN changed ON (known.owner_id, known.fingerprint) = (changed.owner, changed.fingerprint)
            ORDER BY known.owner_id, known.fingerprint FOR UPDATE OF known
        )
        UPDATE dead_letter_groups AS known
        SET open_count = known.open_count - held.opened, total_count = known.total_count - held.gone
        FROM held WHERE (known.owner_id, known.fingerprint) = (held.owner_id, held.fingerprint);
        DELETE FROM dead_letter_groups WHERE total_count <= 0;
    END IF;
    RETURN NULL;
END $$
"""
_SEEN = {
    "INSERT": "NEW TABLE AS fresh",
    "UPDATE": "OLD TABLE AS gone NEW TABLE AS fresh",
    "DELETE": "OLD TABLE AS gone",
}


def upgrade() -> None:
    op.create_table(
        "dead_letter_groups",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("open_count", sa.BigInteger(), nullable=False),
        sa.Column("total_count", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "fingerprint", name=op.f("pk_dead_letter_groups")),
    )
    op.create_index(
        "ix_dead_letter_groups_last_seen_at", "dead_letter_groups", ["last_seen_at"], unique=False
    )
    op.create_table(
        "dead_letter_hours",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("died", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "fingerprint", "hour", name=op.f("pk_dead_letter_hours")),
    )
    op.create_index("ix_dead_letter_hours_hour", "dead_letter_hours", ["hour"], unique=False)
    op.create_table(
        "dead_letter_bulks",
        sa.Column("bulk_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=True),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'prepared'"), nullable=False),
        sa.Column("filter", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=True),
        sa.Column("per_second", sa.Float(), nullable=False),
        sa.Column("canary", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("stop_on_failure_share", sa.Float(), nullable=True),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("act IN ('replay', 'discard')", name=op.f("ck_dead_letter_bulks_act")),
        sa.CheckConstraint(
            "state IN ('prepared', 'running', 'paused', 'cancelled', 'stopped', 'finished')",
            name=op.f("ck_dead_letter_bulks_state"),
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["owners.owner_id"],
            name=op.f("fk_dead_letter_bulks_owner_id_owners"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("bulk_id", name=op.f("pk_dead_letter_bulks")),
    )
    op.create_index(op.f("ix_dead_letter_bulks_owner_id"), "dead_letter_bulks", ["owner_id"], unique=False)
    op.create_index("ix_dead_letter_bulks_state", "dead_letter_bulks", ["state"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", sa.BigInteger(), nullable=False),
        sa.Column("stream_life", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("owner_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("truncated_bytes", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("died_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("ended_why", sa.Text(), nullable=True),
        sa.Column("undo_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("successor_message_id", sa.Text(), nullable=True),
        sa.Column("successor_job_id", sa.Uuid(), nullable=True),
        sa.Column("edited_arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("depth", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("bulk_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "reason IN ('attempts-exhausted', 'permanent-error', 'undecodable', 'unknown-actor', 'crash-loop', 'expired', 'future-version', 'follow-up-not-storable', 'rejected', 'result-not-storable', 'unknown')",
            name=op.f("ck_dead_letters_reason"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'replayed', 'discarded', 'expired')", name=op.f("ck_dead_letters_state")
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["owners.owner_id"],
            name=op.f("fk_dead_letters_owner_id_owners"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["dead_letters.dead_letter_id"],
            name=op.f("fk_dead_letters_parent_id_dead_letters"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letters")),
    )
    op.create_index(
        "ix_dead_letters_actor", "dead_letters", ["actor", "died_at", "dead_letter_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_arguments",
        "dead_letters",
        ["arguments"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"arguments": "jsonb_path_ops"},
    )
    op.create_index("ix_dead_letters_died_at", "dead_letters", ["died_at", "dead_letter_id"], unique=False)
    op.create_index(
        "ix_dead_letters_expires_at",
        "dead_letters",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_dead_letters_fingerprint",
        "dead_letters",
        ["fingerprint", "died_at", "dead_letter_id"],
        unique=False,
    )
    op.create_index("ix_dead_letters_job_id", "dead_letters", ["job_id"], unique=False)
    op.create_index("ix_dead_letters_message_id", "dead_letters", ["message_id"], unique=False)
    op.create_index(
        "ix_dead_letters_owner_id", "dead_letters", ["owner_id", "died_at", "dead_letter_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_parent_id",
        "dead_letters",
        ["parent_id"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "ix_dead_letters_reason", "dead_letters", ["reason", "died_at", "dead_letter_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_state", "dead_letters", ["state", "died_at", "dead_letter_id"], unique=False
    )
    op.create_index(
        "ix_dead_letters_successor_job_id",
        "dead_letters",
        ["successor_job_id"],
        unique=False,
        postgresql_where=sa.text("successor_job_id IS NOT NULL"),
    )
    op.create_index(
        "ix_dead_letters_to_remove",
        "dead_letters",
        ["undo_until"],
        unique=False,
        postgresql_where=sa.text("state <> 'open' AND removed_at IS NULL"),
    )
    op.create_index(
        "ix_dead_letters_trace_id",
        "dead_letters",
        ["trace_id"],
        unique=False,
        postgresql_where=sa.text("trace_id IS NOT NULL"),
    )
    op.create_index("ix_dead_letters_worker", "dead_letters", ["worker", "died_at"], unique=False)
    op.create_index(
        "uq_dead_letters_stream_life_sequence", "dead_letters", ["stream_life", "sequence"], unique=True
    )
    op.create_table(
        "dead_letter_bulk_items",
        sa.Column("bulk_id", sa.BigInteger(), nullable=False),
        sa.Column("dead_letter_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'done', 'skipped', 'failed')", name=op.f("ck_dead_letter_bulk_items_state")
        ),
        sa.ForeignKeyConstraint(
            ["bulk_id"],
            ["dead_letter_bulks.bulk_id"],
            name=op.f("fk_dead_letter_bulk_items_bulk_id_dead_letter_bulks"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["dead_letter_id"],
            ["dead_letters.dead_letter_id"],
            name=op.f("fk_dead_letter_bulk_items_dead_letter_id_dead_letters"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("bulk_id", "dead_letter_id", name=op.f("pk_dead_letter_bulk_items")),
    )
    op.create_index(
        "ix_dead_letter_bulk_items_dead_letter_id", "dead_letter_bulk_items", ["dead_letter_id"], unique=False
    )
    op.create_index(
        "ix_dead_letter_bulk_items_waiting",
        "dead_letter_bulk_items",
        ["bulk_id", "dead_letter_id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.execute(_COUNT)
    for event, seen in _SEEN.items():
        op.execute(
            f"CREATE TRIGGER dead_letters_count_{event.lower()} AFTER {event} ON dead_letters "
            f"REFERENCING {seen} FOR EACH STATEMENT EXECUTE FUNCTION dead_letters_count()"
        )


def downgrade() -> None:
    tables = ("bulk_items", "bulks", "hours", "groups")
    for table in (*(f"dead_letter_{name}" for name in tables), "dead_letters"):
        op.drop_table(table)
    op.execute("DROP FUNCTION dead_letters_count()")
