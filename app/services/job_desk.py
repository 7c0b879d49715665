"""What a person does with a job by hand: look, stop it, have it run again. Acts are in the audit log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import ConflictError, NotFoundError
from app.jobs.dispatch import Dispatcher
from app.jobs.outbox import Envelope
from app.security.principal import Principal, Role
from app.services import dead_letter_filters
from app.services.audit import Audit
from app.services.cancelling import Cancelling, is_cancellable
from app.services.job_filters import visible_to
from app.services.job_replay import why_not_revived
from app.services.job_story import Moment, story
from app.services.jobs import Jobs, JobView
from app.services.letter_acts import LetterActs
from app.services.views import view
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ACTIVE_STATES, DeadLetterRow, Job

_MOST_LETTERS = 20


@dataclass(frozen=True, slots=True)
class JobDetail(JobView):
    """A job with what it is about and what happened to it.

    `publication` counts from 0, `dead_letter_ids` has the newest first, and `can_cancel` and `can_run_again`
    say what whoever asks may do with it now.
    """

    arguments: dict[str, Any]
    outcome: dict[str, Any]
    held: bool
    publication: int
    published_at: datetime | None
    not_before: datetime | None
    expected_by: datetime | None
    trace_id: str | None
    timeline: tuple[Moment, ...]
    dead_letter_ids: tuple[int, ...]
    can_cancel: bool
    can_run_again: bool


@dataclass(frozen=True, slots=True)
class JobDesk:
    """Verbs on one's own jobs; for admins, on everybody's."""

    database: Database
    jobs: Jobs
    cancelling: Cancelling
    dispatcher: Dispatcher
    letters: LetterActs
    audit: Audit

    def get(self, principal: Principal, job_id: UUID) -> JobDetail:
        """One job; raises NotFoundError where it is not theirs to see."""
        with self.database.transaction() as session:
            row = _visible(session, principal, job_id)
            return view(
                JobDetail,
                row,
                trace_id=_trace_id(row),
                timeline=tuple(story(row, datetime.now(UTC))),
                dead_letter_ids=_letters(session, principal, job_id),
                can_cancel=_can_cancel(principal, row),
                can_run_again=_acts(principal) and row.state == "dead",
            )

    def cancel(self, principal: Principal, job_id: UUID) -> None:
        """Stop a job; raises NotFoundError, and ConflictError where it has ended or cleans up."""
        row = self._find(principal, job_id)
        if row.owner_id is None:
            raise ConflictError(f"a {row.kind} job cleans up, so it is never cancelled")
        self.cancelling.job(replace(principal, owner_id=row.owner_id), job_id)
        self._note("job.cancelled", row)

    def run_again(self, principal: Principal, job_id: UUID) -> None:
        """Let a dead job start anew, with five fresh attempts and what failed with it.

        Its open dead letter is replayed; one that has none gets a new message. Raises NotFoundError,
        ConflictError where it is not dead or its work is asked for, or done, by a later job, and
        UnavailableError. A message that cannot be sent now is sent by the reconciler.
        """
        row = self._find(principal, job_id)
        letter = self._letter(job_id)
        if row.state == "dead" and letter is not None and letter.state == "open":
            self.letters.replay(principal, letter.dead_letter_id)
            self._note("job.run_again", row)
            return
        # A replay of its letter may be on its way as the next publication: it must not start the job, too.
        replayed = letter is not None and letter.state == "replayed"
        publication = row.publication + (2 if replayed else 1)
        reason = why_not_revived(self.jobs, job_id, publication=publication)
        if reason is not None:
            raise ConflictError(f"it does not run again: {reason}")
        self._note("job.run_again", row)
        self.dispatcher.send([Envelope(job_id, row.kind, row.queue, publication, trace=row.trace)])

    def _find(self, principal: Principal, job_id: UUID) -> Job:
        with self.database.transaction() as session:
            return _visible(session, principal, job_id)

    def _letter(self, job_id: UUID) -> DeadLetterRow | None:
        """The newest open letter, else the newest."""
        order = ((DeadLetterRow.state == "open").desc(), DeadLetterRow.died_at.desc())
        found = select(DeadLetterRow).where(DeadLetterRow.job_id == job_id).order_by(*order)
        with self.database.transaction() as session:
            return session.scalar(found.limit(1))

    def _note(self, action: str, row: Job) -> None:
        self.audit.note(
            action,
            object_kind="job",
            object_id=str(row.job_id),
            owner_id=row.owner_id,
            details={"kind": row.kind},
        )


def _visible(session: Session, principal: Principal, job_id: UUID) -> Job:
    row = session.scalar(select(Job).where(Job.job_id == job_id, visible_to(principal)))
    if row is None:
        raise NotFoundError(f"no job {job_id}")
    return row


def _letters(session: Session, principal: Principal, job_id: UUID) -> tuple[int, ...]:
    mine = DeadLetterRow.job_id == job_id, dead_letter_filters.visible_to(principal)
    newest = select(DeadLetterRow.dead_letter_id).where(*mine).order_by(DeadLetterRow.died_at.desc())
    return tuple(session.scalars(newest.limit(_MOST_LETTERS)))


def _trace_id(row: Job) -> str | None:
    parts = row.trace.get("traceparent", "").split("-")
    return parts[1] if len(parts) > 1 else None


def _acts(principal: Principal) -> bool:
    return principal.role.covers(Role.OPERATOR)


def _can_cancel(principal: Principal, row: Job) -> bool:
    stoppable = row.state in ACTIVE_STATES and row.owner_id is not None and is_cancellable(row.kind)
    return _acts(principal) and stoppable
