"""The index of dead letters, and bulk jobs over them.

A letter itself lies on its stream for 30 days; a row here stands for it, tells what became of it, and stays
as its tombstone. Counts by cause are kept by triggers (migration 0008), so that nobody counts a million rows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base

LETTER_STATES = ("open", "replayed", "discarded", "expired")
# The broker's closed set of reasons, and one for what a newer release may write.
LETTER_REASONS = (
    "attempts-exhausted", "permanent-error", "undecodable", "unknown-actor", "crash-loop", "expired",
    "future-version", "follow-up-not-storable", "rejected", "result-not-storable", "unknown",
)  # fmt: skip
BULK_STATES = ("prepared", "running", "paused", "cancelled", "stopped", "finished")
_OWNER = "owners.owner_id"


def _one_of(column: str, words: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(word) for word in words)})"


class DeadLetterRow(Base):
    """One dead letter. docs/dead-letters.md has the life of `state`."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        CheckConstraint(_one_of("state", LETTER_STATES), name="state"),
        CheckConstraint(_one_of("reason", LETTER_REASONS), name="reason"),
        Index("uq_dead_letters_stream_life_sequence", "stream_life", "sequence", unique=True),
        Index("ix_dead_letters_died_at", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_state", "state", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_owner_id", "owner_id", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_fingerprint", "fingerprint", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_reason", "reason", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_actor", "actor", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_queue", "queue", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_pool", "pool", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_error_class", "error_class", "died_at", "dead_letter_id"),
        Index("ix_dead_letters_bulk_id", "bulk_id", postgresql_where=text("bulk_id IS NOT NULL")),
        Index("ix_dead_letters_attempts", "attempts", "died_at"),
        Index("ix_dead_letters_worker", "worker", "died_at"),
        Index("ix_dead_letters_job_id", "job_id"),
        Index("ix_dead_letters_message_id", "message_id"),
        Index("ix_dead_letters_trace_id", "trace_id", postgresql_where=text("trace_id IS NOT NULL")),
        Index("ix_dead_letters_expires_at", "expires_at", postgresql_where=text("state = 'open'")),
        Index(
            "ix_dead_letters_successor_job_id",
            "successor_job_id",
            postgresql_where=text("successor_job_id IS NOT NULL"),
        ),
        Index(
            "ix_dead_letters_to_remove",
            "undo_until",
            postgresql_where=text("state <> 'open' AND removed_at IS NULL"),
        ),
        Index("ix_dead_letters_origin", "origin", postgresql_where=text("origin IS NOT NULL")),
        Index("ix_dead_letters_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_dead_letters_words", "words", postgresql_using="gin"),
        Index("ix_dead_letters_wordless", "dead_letter_id", postgresql_where=text("words IS NULL")),
        Index(
            "ix_dead_letters_arguments",
            "arguments",
            postgresql_using="gin",
            postgresql_ops={"arguments": "jsonb_path_ops"},
        ),
    )

    dead_letter_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # A stream made anew counts from one again: when it was made tells its letters from the old one's.
    stream_life: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(BigInteger)
    message_id: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[UUID | None] = mapped_column(Uuid)  # refers to nothing: letters outlive jobs
    owner_id: Mapped[str | None] = mapped_column(ForeignKey(_OWNER, ondelete="CASCADE"))  # of the job
    actor: Mapped[str | None] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    pool: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    error_class: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str] = mapped_column(Text)  # secrets masked
    cause: Mapped[str] = mapped_column(Text)  # the same without what differs from letter to letter
    fingerprint: Mapped[str] = mapped_column(Text)  # of class, cause and our own top frames: 16 hex digits
    arguments: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # the job's, when the letter was indexed
    # Names of the files or documents that the job was about, when the letter was indexed.
    document: Mapped[str | None] = mapped_column(Text)
    # By which it is found; none for a while where an older release wrote the row.
    words: Mapped[str | None] = mapped_column(TSVECTOR, deferred=True)
    attempts: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str] = mapped_column(Text)
    trace_id: Mapped[str | None] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(Integer)
    truncated_bytes: Mapped[int] = mapped_column(Integer)
    first_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))  # its first attempt
    died_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # A person opened it: what expires unseen is warned of.
    read_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state: Mapped[str] = mapped_column(Text, server_default=text("'open'"))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_by: Mapped[str | None] = mapped_column(Text)
    ended_why: Mapped[str | None] = mapped_column(Text)
    undo_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    removed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))  # from the stream
    successor_message_id: Mapped[str | None] = mapped_column(Text)
    # The job that an edited, moved or delayed replay started: a new one, or its own anew.
    successor_job_id: Mapped[UUID | None] = mapped_column(Uuid)
    edited_arguments: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # The letter whose replay died as this one, and how many replays lie behind it.
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("dead_letters.dead_letter_id", ondelete="SET NULL")
    )
    depth: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    bulk_id: Mapped[int | None] = mapped_column(BigInteger)  # that ended it
    # Of an imported letter: "life:sequence" of the one that was exported.
    origin: Mapped[str | None] = mapped_column(Text)


class DeadLetterGroup(Base):
    """How many letters an owner has of a cause; kept by triggers. `owner_id` is '' for nobody's."""

    __tablename__ = "dead_letter_groups"
    __table_args__ = (Index("ix_dead_letter_groups_last_seen_at", "last_seen_at"),)

    owner_id: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    error_class: Mapped[str | None] = mapped_column(Text)
    cause: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str | None] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    pool: Mapped[str | None] = mapped_column(Text)
    open_count: Mapped[int] = mapped_column(BigInteger)
    total_count: Mapped[int] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class DeadLetterHour(Base):
    """How many letters of a cause died in an hour, for the small curves; kept by a trigger."""

    __tablename__ = "dead_letter_hours"
    __table_args__ = (Index("ix_dead_letter_hours_hour", "hour"),)

    owner_id: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    died: Mapped[int] = mapped_column(BigInteger)


class DeadLetterBulk(Base):
    """A replay or discard of many letters: a frozen list of them, worked off by whichever worker has it."""

    __tablename__ = "dead_letter_bulks"
    __table_args__ = (
        CheckConstraint(_one_of("state", BULK_STATES), name="state"),
        CheckConstraint("act IN ('replay', 'discard')", name="act"),
        Index("ix_dead_letter_bulks_state", "state"),
    )

    bulk_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    owner_id: Mapped[str | None] = mapped_column(ForeignKey(_OWNER, ondelete="CASCADE"), index=True)
    act: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default=text("'prepared'"))
    filter: Mapped[dict[str, Any]] = mapped_column(JSONB)
    why: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    started_by: Mapped[str | None] = mapped_column(Text)
    per_second: Mapped[float] = mapped_column(Float)
    canary: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # pause after so many; 0: do not
    stop_on_failure_share: Mapped[float | None] = mapped_column(Float)
    total: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    done: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    skipped: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # ended otherwise meanwhile
    failed: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    note: Mapped[str | None] = mapped_column(Text)  # why it paused or stopped
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Who works on it, and until when others leave it to them.
    worker: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Of whoever began it or let it go on, as of a job.
    trace: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    # The most frequent of its letters, with their numbers; none where an older release made it.
    causes: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)


class DeadLetterBulkItem(Base):
    """One letter of a bulk job, in the order in which they are taken: oldest first."""

    __tablename__ = "dead_letter_bulk_items"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'done', 'skipped', 'failed')", name="state"),
        Index(
            "ix_dead_letter_bulk_items_waiting",
            "bulk_id",
            "dead_letter_id",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index(
            "ix_dead_letter_bulk_items_trouble",
            "bulk_id",
            "dead_letter_id",
            postgresql_where=text("state IN ('failed', 'skipped')"),
        ),
        Index("ix_dead_letter_bulk_items_dead_letter_id", "dead_letter_id"),
    )

    bulk_id: Mapped[int] = mapped_column(
        ForeignKey("dead_letter_bulks.bulk_id", ondelete="CASCADE"), primary_key=True
    )
    dead_letter_id: Mapped[int] = mapped_column(
        ForeignKey("dead_letters.dead_letter_id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(Text, server_default=text("'waiting'"))
    detail: Mapped[str | None] = mapped_column(Text)  # the successor's message id, or why not
