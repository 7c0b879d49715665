"""Jobs: what must be done and where it stands. The row is the truth; messages only point at it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base

ACTIVE_STATES = ("pending", "running", "retrying")
FINAL_STATES = ("succeeded", "dead", "cancelled")
_ACTIVE_SQL = "state IN ('pending', 'running', 'retrying')"


class Job(Base):
    """One unit of work. docs/job-states.md has the diagram of `state`."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'running', 'retrying', 'succeeded', 'dead', 'cancelled')", name="state"
        ),
        Index("uq_jobs_active", "kind", "unique_key", unique=True, postgresql_where=text(_ACTIVE_SQL)),
        Index("ix_jobs_active", "state", "updated_at", postgresql_where=text(_ACTIVE_SQL)),
        Index(
            "ix_jobs_held",
            "queue",
            "owner_id",
            "scope_kind",
            "scope_id",
            "created_at",
            "job_id",
            postgresql_where=text("held AND state = 'pending'"),
        ),
        Index(
            "ix_jobs_at_work",
            "queue",
            "state",
            "owner_id",
            postgresql_where=text("state IN ('pending', 'running') AND NOT held"),
        ),
        Index("ix_jobs_scope", "scope_kind", "scope_id", "state"),
        # The newest jobs of everybody, and how many came and went lately: what operators look at.
        Index("ix_jobs_created_at_job_id", "created_at", "job_id"),
        Index("ix_jobs_dead", "created_at", "job_id", postgresql_where=text("state = 'dead'")),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_jobs_planned_by", "planned_by", "state", postgresql_where=text("planned_by IS NOT NULL")),
        Index(
            "ix_jobs_plans",
            "kind",
            "scope_id",
            "created_at",
            "job_id",
            postgresql_where=text("kind IN ('plan_collection_transform', 'plan_dataset_transform')"),
        ),
    )

    job_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    # Work without an owner of its own (sweeps) carries none.
    owner_id: Mapped[str | None] = mapped_column(
        ForeignKey("owners.owner_id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str] = mapped_column(Text)
    unique_key: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # Which standing thing the job serves, for progress: e.g. ("collection_transform", 7).
    scope_kind: Mapped[str | None] = mapped_column(Text)
    scope_id: Mapped[int | None] = mapped_column(Integer)
    # The plan that made it, or asked for it last: both are of one run of a transform. No foreign key: a job
    # that is recorded again would hold the plan's row after its own, and cancellations lock that first.
    planned_by: Mapped[UUID | None] = mapped_column(Uuid)
    state: Mapped[str] = mapped_column(Text, server_default=text("'pending'"))
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # the latest; 0: none yet
    # Asked for again while running: a fresh job follows when this one ends.
    rerun: Mapped[bool] = mapped_column(server_default=text("false"))
    # Waits for its turn in Postgres, no message stands for it yet (jobs/admission).
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    run_token: Mapped[UUID | None] = mapped_column(Uuid)
    worker: Mapped[str | None] = mapped_column(Text)
    publication: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # times put on the stream
    published_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Its message is on the stream no later than this; the reconciler looks after it passes.
    expected_by: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Somebody put its start off until then; its message is scheduled, and so is one that replaces it.
    not_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # When it was first put off for a provider that is not called just now; policy.PATIENCE counts from then.
    put_off_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    # What came of it, in the kind's own words, e.g. {"chunks": 120, "split": 3}.
    outcome: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    trace: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
