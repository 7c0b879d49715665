"""What is done with one dead letter: replay, edit and replay, discard, undo.

The successor is stored before the letter is marked, never the other way round: who dies in between leaves a
letter that looks open, and whoever tries again, or the sweep, finds that it was replayed and only says so.
A discarded letter stays on its stream until it can no longer be undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from dramatiq.errors import BrokerConnectionError, BrokerError
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError, UnavailableError
from app.jobs.contracts import Contract
from app.jobs.outbox import Outbox
from app.security.audit import origin
from app.security.principal import Principal
from app.services.audit_trail import AuditTrail
from app.services.dead_letters import DeadLetterView, about, letter_of
from app.services.job_replay import obstacles
from app.services.letter_edits import Change, changes, edited_contract
from app.services.letter_ends import LetterEnds
from app.services.storable import check_storable
from app.services.views import view
from app.storage.postgres.session import Database, after_commit
from app.storage.postgres.tables import DeadLetterRow, Job
from brokers import DeadLetterNotFoundError, JetStreamBroker, TopologyError, dead_feed, dead_letter

WHY_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Edited:
    """A letter whose arguments were, or would be, changed; `job_id` is the new job's, None for a preview."""

    letter: DeadLetterView
    changes: tuple[Change, ...]
    job_id: UUID | None


@dataclass(frozen=True, slots=True)
class LetterActs:
    """Verbs that end a letter or bring it back. `max_replays` caps a line of replays, also of edits."""

    database: Database
    trail: AuditTrail
    broker: JetStreamBroker
    outbox: Outbox
    ends: LetterEnds
    undo_period: timedelta
    max_replays: int

    def replay(self, principal: Principal, dead_letter_id: int, *, why: str = "") -> DeadLetterView:
        """Send the letter's message again: its job starts anew, with five fresh attempts.

        Raises NotFoundError; ConflictError where it has ended, would start nothing, cannot be read as a
        message, or was replayed too often; UnavailableError.
        """
        why = check_why(why)
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id)
            hindrance = self._hindrance(session, row)
        if hindrance is not None:
            return self._sent_before(principal, row, why, hindrance)
        sent = self._send(row, why)
        if not sent.stored:
            self.ends.mirror([dead_letter_id])
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id, lock=True)
            if not sent.stored and row.state == "replayed":
                return _as_recorded(row)
            mark(row, "replayed", why)
            successor = str(sent.message.message_id)
            row.successor_message_id, row.removed_at = successor, func.now()
            row.undo_until = None  # somebody may have discarded it meanwhile: its message is on its way
            self.trail.record(session, "dead_letter.replayed", **about(row, successor=successor))
            session.flush()
            session.refresh(row)
            return view(DeadLetterView, row)

    def check_edit(self, principal: Principal, dead_letter_id: int, arguments: dict[str, Any]) -> Edited:
        """What `edit_and_replay` would change; raises as it does."""
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id)
            job, _ = self._edited(session, row, arguments)
            found = changes(job.arguments, arguments)
        return Edited(view(DeadLetterView, row), found, None)

    def edit_and_replay(
        self, principal: Principal, dead_letter_id: int, arguments: dict[str, Any], *, why: str = ""
    ) -> Edited:
        """Start a new job of the same kind, for the same owner, with these arguments; the old one stays dead.

        The arguments must be those of the kind's contract, and what they name the owner's. The letter keeps
        both and names the new job; a letter of that one names this letter as its parent. Raises
        NotFoundError, InvalidInputError, ConflictError.
        """
        why = check_why(why)
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id, lock=True)
            job, contract = self._edited(session, row, arguments)
            found = changes(job.arguments, arguments)
            mark(row, "replayed", why)
            row.edited_arguments = arguments
            row.successor_job_id = self.outbox.record(session, contract, owner_id=row.owner_id)
            fields = {"successor": str(row.successor_job_id), "fields": [each.path for each in found]}
            self.trail.record(session, "dead_letter.edited", **about(row, **fields))
            after_commit(session, lambda: self.ends.remove(dead_letter_id))
            session.flush()
            session.refresh(row)
            return Edited(view(DeadLetterView, row), found, row.successor_job_id)

    def discard(self, principal: Principal, dead_letter_id: int, *, why: str) -> DeadLetterView:
        """Put the letter aside for good, which can be undone for a while; a reason must be given.

        Raises NotFoundError, InvalidInputError, ConflictError.
        """
        why = check_why(why, needed=True)
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id, lock=True)
            refuse_ended(row)
            mark(row, "discarded", why)
            row.undo_until = func.now() + self.undo_period
            self.trail.record(session, "dead_letter.discarded", **about(row))
            session.flush()
            session.refresh(row)
            return view(DeadLetterView, row)

    def undo(self, principal: Principal, dead_letter_id: int) -> DeadLetterView:
        """Take a discard back; raises NotFoundError, and ConflictError for no discard or one too old."""
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id, lock=True)
            if row.state != "discarded":
                raise ConflictError(f"dead letter {dead_letter_id} is {row.state}: only a discard is undone")
            now = session.scalar(func.now())
            if row.removed_at is not None or row.undo_until is None or row.undo_until <= now:
                raise ConflictError(f"the discard of dead letter {dead_letter_id} can no longer be undone")
            row.state, row.ended_at, row.ended_by, row.ended_why = "open", None, None, None
            row.undo_until = row.bulk_id = None
            self.trail.record(session, "dead_letter.restored", **about(row))
            session.flush()
            session.refresh(row)
            return view(DeadLetterView, row)

    def _hindrance(self, session: Session, row: DeadLetterRow) -> str | None:
        refuse_ended(row)
        refuse_too_deep(row, self.max_replays)
        return obstacles(session, [row.job_id]).get(row.job_id) if row.job_id else None

    def _sent_before(
        self, principal: Principal, row: DeadLetterRow, why: str, hindrance: str
    ) -> DeadLetterView:
        """The job goes on already: a replay was sent by somebody who died then, or it has another reason."""
        key = row.dead_letter_id
        self._refuse_other_stream(row)
        if self.ends.finish_replays([row.sequence], by=origin().actor, why=why):
            self.ends.mirror([key])
        with self.database.transaction() as session:
            row = letter_of(session, principal, key)
            if row.state == "replayed":
                return _as_recorded(row)
        raise ConflictError(f"a replay of dead letter {key} would start nothing: {hindrance}")

    def _edited(
        self, session: Session, row: DeadLetterRow, arguments: dict[str, Any]
    ) -> tuple[Job, Contract]:
        refuse_ended(row)
        refuse_too_deep(row, self.max_replays)
        job = session.get(Job, row.job_id) if row.job_id else None
        if job is None:
            raise ConflictError(
                f"dead letter {row.dead_letter_id} has no job (any more) whose arguments could be edited"
            )
        contract = edited_contract(session, job, arguments)
        if not changes(job.arguments, arguments):
            raise InvalidInputError("nothing was changed: replay the letter as it is", field="arguments")
        return job, contract

    def _send(self, row: DeadLetterRow, why: str) -> dead_letter.Replayed:
        try:
            self._refuse_other_stream(row)
            return dead_letter.replay_once(
                self.broker, row.sequence, by=origin().actor, why=why, max_replays=self.max_replays
            )
        except DeadLetterNotFoundError as error:
            self.ends.mirror([row.dead_letter_id])
            raise ConflictError(str(error)) from error
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        except BrokerError as error:  # not a message, replayed too often, queue unknown, key held, too large
            raise ConflictError(str(error)) from error

    def _refuse_other_stream(self, row: DeadLetterRow) -> None:
        try:
            life = dead_feed.lifetime(self.broker).created
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        if life != row.stream_life:
            raise ConflictError("the letter is gone with its stream, which was made anew since")


def _as_recorded(row: DeadLetterRow) -> DeadLetterView:
    """For one whose call sent nothing: somebody did at the same moment, or they themselves before a crash."""
    if row.ended_by != origin().actor:
        refuse_ended(row)
    return view(DeadLetterView, row)


def check_why(why: str, *, needed: bool = False) -> str:
    """The reason without blanks around it; raises InvalidInputError where it is missing or can be none."""
    why = why.strip()
    check_storable(why, "why")
    if needed and not why:
        raise InvalidInputError("say why: a discard needs a reason", field="why")
    if len(why) > WHY_CHARACTERS:
        raise InvalidInputError(f"why must have at most {WHY_CHARACTERS} characters", field="why")
    return why


def mark(row: DeadLetterRow, state: str, why: str) -> None:
    """Write down how a letter ends, and by whom."""
    row.state, row.ended_at = state, func.now()
    row.ended_by, row.ended_why = origin().actor, why or None


def refuse_too_deep(row: DeadLetterRow, max_replays: int) -> None:
    """Raise ConflictError at the end of a line of replays."""
    if row.depth >= max_replays:
        raise ConflictError(
            f"dead letter {row.dead_letter_id} comes of {row.depth} replays that all died: "
            f"no more than {max_replays} are made. Find the cause, or discard it"
        )


def refuse_ended(row: DeadLetterRow) -> None:
    """Raise ConflictError for a letter that is not open."""
    if row.state != "open":
        by = f" by {row.ended_by}" if row.ended_by else ""
        raise ConflictError(f"dead letter {row.dead_letter_id} was {row.state}{by} already")
