"""A letter whose work is done elsewhere, or later: given to another kind of job, or put off until a moment.

Its message is not sent again. The job gets a new one, or another job is recorded, in the transaction that
ends the letter: both happen or neither, and what cannot be sent then is sent by the reconciler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError
from app.jobs.contracts import CONTRACTS
from app.jobs.outbox import Envelope, Outbox
from app.jobs.policy import seconds_until
from app.security.principal import Principal
from app.services.audit_trail import AuditTrail
from app.services.dead_letters import DeadLetterView, about, letter_of
from app.services.job_replay import obstacles, start_anew
from app.services.letter_acts import check_why, mark, refuse_ended, refuse_too_deep
from app.services.letter_edits import EDITABLE, contract_for
from app.services.letter_ends import LetterEnds
from app.services.views import view
from app.storage.postgres.session import Database, after_commit
from app.storage.postgres.tables import DeadLetterRow, Job

LONGEST_DELAY = timedelta(days=30)
# One more than a replay of the letter would take: should one be on its way, it starts nothing.
_PUBLICATIONS = 2


@dataclass(frozen=True, slots=True)
class Destination:
    """A kind of job that can take a letter's work, and its queue. `same_job`: its own job goes on."""

    kind: str
    queue: str
    same_job: bool


@dataclass(frozen=True, slots=True)
class LetterMoves:
    """Verbs that send a letter's work elsewhere or later. `max_replays` caps a line of replays."""

    database: Database
    trail: AuditTrail
    outbox: Outbox
    ends: LetterEnds
    max_replays: int

    def destinations(self, principal: Principal, dead_letter_id: int) -> tuple[Destination, ...]:
        """Where the letter can be rerouted to, none for one that has ended; raises NotFoundError."""
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id)
            job = session.get(Job, row.job_id) if row.job_id else None
            return tuple(_destinations(row, job)) if job is not None and row.state == "open" else ()

    def delay(
        self, principal: Principal, dead_letter_id: int, at: datetime, *, why: str = ""
    ) -> DeadLetterView:
        """Let the letter's job start anew at a moment, at most 30 days away, with five fresh attempts.

        Raises NotFoundError, InvalidInputError, and ConflictError where a replay would start nothing.
        """
        return self._move(principal, dead_letter_id, None, at, why)

    def reroute(
        self, principal: Principal, dead_letter_id: int, to: str, *, at: datetime | None = None, why: str = ""
    ) -> DeadLetterView:
        """Let a kind of job, one of `destinations`, do the letter's work.

        Its own kind takes it where the letter lies at another queue or under another name; then `at` may
        name a moment. Any other kind is a new job of the same owner. Raises as `delay`.
        """
        return self._move(principal, dead_letter_id, to, at, why)

    def _move(
        self, principal: Principal, dead_letter_id: int, to: str | None, at: datetime | None, why: str
    ) -> DeadLetterView:
        why = check_why(why)
        _check_moment(at)
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id, lock=True)
            refuse_ended(row)
            refuse_too_deep(row, self.max_replays)
            job = _job_of(session, row)
            _check_destination(row, job, to, at)
            mark(row, "replayed", why)
            if to is None or to == job.kind:
                self._start_again(session, row, job, at)
            else:
                contract = contract_for(session, job, to)
                row.successor_job_id = self.outbox.record(session, contract, owner_id=job.owner_id)
            self.trail.record(session, "dead_letter.moved", **about(row, **_told(row, job, to, at)))
            after_commit(session, lambda: self.ends.remove(dead_letter_id))
            session.flush()
            session.refresh(row)
            return view(DeadLetterView, row)

    def _start_again(self, session: Session, row: DeadLetterRow, job: Job, at: datetime | None) -> None:
        hindrance = obstacles(session, [job.job_id]).get(job.job_id)
        if hindrance is not None:
            raise ConflictError(f"dead letter {row.dead_letter_id} would start nothing: {hindrance}")
        publication, queue = job.publication + _PUBLICATIONS, CONTRACTS[job.kind].queue
        try:
            begun = start_anew(session, job.job_id, publication=publication, queue=queue, not_before=at)
        except IntegrityError:
            begun = False
        if not begun:
            raise ConflictError("the same work was asked for again at this moment")
        envelope = Envelope(job.job_id, job.kind, queue, publication, seconds_until(at))
        self.outbox.send_after(session, envelope)
        row.successor_job_id, row.successor_message_id = job.job_id, f"{job.job_id}:{publication}"


def _job_of(session: Session, row: DeadLetterRow) -> Job:
    job = session.get(Job, row.job_id) if row.job_id else None
    if job is None:
        raise ConflictError(f"dead letter {row.dead_letter_id} has no job (any more) that could be moved")
    if job.kind not in CONTRACTS:
        raise ConflictError(f"there is no contract of kind {job.kind!r}: was it made by a newer release?")
    return job


def _destinations(row: DeadLetterRow, job: Job) -> Iterator[Destination]:
    """Its own kind, if the letter came from elsewhere; kinds that ask for no more than its job says."""
    own = CONTRACTS.get(job.kind)
    if own is not None and (row.actor, row.queue, job.queue) != (own.kind, own.queue, own.queue):
        yield Destination(own.kind, own.queue, same_job=True)
    for kind in sorted(EDITABLE - {job.kind}):
        if {field.name for field in fields(CONTRACTS[kind])} <= set(job.arguments):
            yield Destination(kind, CONTRACTS[kind].queue, same_job=False)


def _check_destination(row: DeadLetterRow, job: Job, to: str | None, at: datetime | None) -> None:
    if to is None:
        return
    found = {one.kind: one for one in _destinations(row, job)}
    if to not in found:
        names = ", ".join(found) or "none: replay, edit or delay it"
        raise InvalidInputError(f"{to!r} does not take this letter's work; what does: {names}", field="to")
    if at is not None and not found[to].same_job:
        raise InvalidInputError("a moment is only for the letter's own job, not for a new one", field="at")


def _check_moment(at: datetime | None) -> None:
    if at is None:
        return
    if at.tzinfo is None:
        raise InvalidInputError("at must say its time zone, e.g. 2030-01-31T08:00:00Z", field="at")
    now = datetime.now(UTC)
    if not now < at <= now + LONGEST_DELAY:
        raise InvalidInputError(
            f"at must lie in the future, at most {LONGEST_DELAY.days} days away", field="at"
        )


def _told(row: DeadLetterRow, job: Job, to: str | None, at: datetime | None) -> dict[str, str]:
    told = {"successor": str(row.successor_job_id), "from": f"{row.actor}@{row.queue}", "to": to or job.kind}
    return told | ({"at": at.isoformat()} if at is not None else {})
