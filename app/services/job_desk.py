"""What a person does with a job by hand: stop it, have it run again. Every act is in the audit log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import select

from app.errors import ConflictError, NotFoundError
from app.jobs.dispatch import Dispatcher
from app.jobs.outbox import Envelope
from app.security.principal import Principal, Role
from app.services.audit import Audit
from app.services.cancelling import Cancelling
from app.services.job_replay import why_not_revived
from app.services.jobs import Jobs
from app.services.letter_acts import LetterActs
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterRow, Job


@dataclass(frozen=True, slots=True)
class JobDesk:
    """Verbs on one's own jobs; for admins, on everybody's."""

    database: Database
    jobs: Jobs
    cancelling: Cancelling
    dispatcher: Dispatcher
    letters: LetterActs
    audit: Audit

    def find(self, principal: Principal, job_id: UUID) -> Job:
        """The job's row; raises NotFoundError where it is not theirs to see."""
        with self.database.transaction() as session:
            row = session.scalar(select(Job).where(Job.job_id == job_id))
        if row is None or not (sees_all(principal) or row.owner_id == principal.owner_id):
            raise NotFoundError(f"no job {job_id}")
        return row

    def cancel(self, principal: Principal, job_id: UUID) -> None:
        """Stop a job; raises NotFoundError, and ConflictError where it has ended or cleans up."""
        row = self.find(principal, job_id)
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
        row = self.find(principal, job_id)
        if row.state == "dead" and (letter := self._open_letter(job_id)) is not None:
            self.letters.replay(principal, letter)
            self._note("job.run_again", row)
            return
        publication = row.publication + 1
        reason = why_not_revived(self.jobs, job_id, publication=publication)
        if reason is not None:
            raise ConflictError(f"it does not run again: {reason}")
        self._note("job.run_again", row)
        self.dispatcher.send([Envelope(job_id, row.kind, row.queue, publication, trace=row.trace)])

    def _open_letter(self, job_id: UUID) -> int | None:
        newest = (
            select(DeadLetterRow.dead_letter_id)
            .where(DeadLetterRow.job_id == job_id, DeadLetterRow.state == "open")
            .order_by(DeadLetterRow.died_at.desc())
        )
        with self.database.transaction() as session:
            return session.scalar(newest.limit(1))

    def _note(self, action: str, row: Job) -> None:
        self.audit.note(
            action,
            object_kind="job",
            object_id=str(row.job_id),
            owner_id=row.owner_id,
            details={"kind": row.kind},
        )


def sees_all(principal: Principal) -> bool:
    """Whether somebody may see and act on what others own."""
    return principal.role.covers(Role.ADMIN)
