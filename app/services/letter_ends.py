"""The end of dead letters: what was put aside leaves the stream, what expired stays as a tombstone.

Everything here may run in several processes at once, and again after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dramatiq.errors import BrokerConnectionError
from sqlalchemy import Select, delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from app.errors import UnavailableError
from app.jobs.letter_index import LetterIndex
from app.services.audit_trail import AuditTrail
from app.services.dead_letter_filters import expiring_unread
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterGroup, DeadLetterHour, DeadLetterRow
from brokers import EndedLetter, JetStreamBroker, TopologyError, dead_feed, dead_letter

logger = logging.getLogger(__name__)

AT_ONCE = 500
_EXPIRED_AT_ONCE = 5000
_EXPIRY_GRACE = timedelta(minutes=1)  # the server's clock and ours
_TOMBSTONES_KEPT = timedelta(days=90)
_HOURS_KEPT = timedelta(days=30)
_PREPARED_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open letters, and those of them that expire within three days and that nobody has opened."""

    open: int
    expiring_unread: int


@dataclass(frozen=True, slots=True)
class LetterEnds:
    """Brings rows and stream together where letters end."""

    database: Database
    trail: AuditTrail
    broker: JetStreamBroker
    index: LetterIndex

    def keep(self) -> int:
        """Remove what can no longer be undone, note what expired, forget old tombstones; how many it was.

        Raises UnavailableError.
        """
        number = self.remove_due() + self.expire()
        self._forget()
        return number

    def remove_due(self) -> int:
        """Take letters that ended in the index off the stream, once that cannot be undone any more."""
        with self.database.transaction() as session:
            due = session.scalars(_due().limit(AT_ONCE)).all()
        return sum(self.remove(dead_letter_id) for dead_letter_id in due)

    def remove(self, dead_letter_id: int) -> bool:
        """The same for one letter; False where there is nothing to do (yet), or another process does it."""
        with self.database.transaction() as session:
            locked = _due(DeadLetterRow.dead_letter_id == dead_letter_id).with_for_update(skip_locked=True)
            if session.scalar(locked) is None:
                return False
            row = session.get_one(DeadLetterRow, dead_letter_id)
            ended = self._discard(row)
            row.removed_at = func.now()
            if ended is not None and ended.outcome == "replayed" and row.state == "discarded":
                _copy(row, ended)
        return True

    def mirror(self, ids: Sequence[int]) -> int:
        """Write into open rows how their letters ended, where the records of the stream say so."""
        number = 0
        with self.database.transaction() as session:
            open_rows = select(DeadLetterRow).where(
                DeadLetterRow.dead_letter_id.in_(ids), DeadLetterRow.state == "open"
            )
            for row in session.scalars(open_rows.order_by(DeadLetterRow.dead_letter_id).with_for_update()):
                with_record = self._ended(row)
                if with_record is not None:
                    _copy(row, with_record)
                    self._record(session, row)
                    number += 1
        return number

    def finish_replays(self, sequences: Sequence[int], *, by: str, why: str) -> list[int]:
        """Bring replays to their end whose messages are stored; the sequences of letters that have ended.

        Whoever sent them died before they could. The rows are `mirror`'s to write. Raises UnavailableError.
        """
        if not sequences:
            return []
        try:
            return list(dead_letter.finish_replays(self.broker, sequences, by=by, why=why))
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error

    def repair(self, *, dry_run: bool = False) -> int:
        """Compare the index with the stream, and bring it to what is true there; how many letters differed.

        Raises UnavailableError.
        """
        found = self.index.compare(dry_run=dry_run)
        if not dry_run:
            self.mirror(found.gone)
            self.lose_other_streams(found.life)
        return found.missing + len(found.gone)

    def expire(self) -> int:
        """Rows of letters that the server has removed become tombstones."""
        number = 0
        while found := self._expire_some():
            number += found
        return number

    def lose_other_streams(self, life: str) -> int:
        """Open letters of a stream that was made anew are gone with it."""
        lost = select(DeadLetterRow.dead_letter_id).where(
            DeadLetterRow.state == "open", DeadLetterRow.stream_life != life
        )
        return self._end_as_expired(lost, "the stream was made anew")

    def waiting(self) -> Waiting:
        """How many letters wait for somebody, of all owners."""
        expiring = select(func.count()).select_from(DeadLetterRow).where(*expiring_unread())
        with self.database.transaction() as session:
            total = session.scalar(select(func.sum(DeadLetterGroup.open_count)))
            return Waiting(int(total or 0), session.scalar(expiring) or 0)

    def _expire_some(self) -> int:
        over = DeadLetterRow.expires_at < func.now() - _EXPIRY_GRACE
        expired = select(DeadLetterRow.dead_letter_id).where(DeadLetterRow.state == "open", over)
        return self._end_as_expired(expired, None)

    def _end_as_expired(self, which: Select[tuple[int]], why: str | None) -> int:
        some = which.order_by(DeadLetterRow.dead_letter_id).limit(_EXPIRED_AT_ONCE)
        with self.database.transaction() as session:
            ids = session.scalars(some.with_for_update(skip_locked=True)).all()
            if not ids:
                return 0
            unread = select(func.count()).where(
                DeadLetterRow.dead_letter_id.in_(ids), DeadLetterRow.read_at.is_(None)
            )
            details = {"count": len(ids), "unread": session.scalar(unread) or 0}
            session.execute(
                update(DeadLetterRow)
                .where(DeadLetterRow.dead_letter_id.in_(ids))
                .values(
                    state="expired",
                    ended_at=func.least(DeadLetterRow.expires_at, func.now()),
                    ended_why=why,
                    removed_at=func.now(),
                )
            )
            self.trail.record(session, "dead_letter.expired", object_kind="dead_letter", details=details)
        if details["unread"]:
            logger.warning("%(count)d dead letters expired, %(unread)d of which nobody had opened", details)
        return len(ids)

    def _forget(self) -> None:
        with self.database.transaction() as session:
            old = select(DeadLetterRow.dead_letter_id).where(
                DeadLetterRow.state != "open",
                DeadLetterRow.removed_at.is_not(None),
                DeadLetterRow.ended_at < func.now() - _TOMBSTONES_KEPT,
            )
            session.execute(
                delete(DeadLetterRow).where(DeadLetterRow.dead_letter_id.in_(old.limit(_EXPIRED_AT_ONCE)))
            )
            session.execute(delete(DeadLetterHour).where(DeadLetterHour.hour < func.now() - _HOURS_KEPT))
            # A list that was never begun may hold a million letters.
            session.execute(text("SET LOCAL statement_timeout = '120s'"))
            unused = (
                DeadLetterBulk.state == "prepared",
                DeadLetterBulk.created_at < func.now() - _PREPARED_KEPT,
            )
            session.execute(delete(DeadLetterBulk).where(*unused))

    def _discard(self, row: DeadLetterRow) -> EndedLetter | None:
        try:
            if dead_feed.lifetime(self.broker).created != row.stream_life:
                return None  # a letter with this number is another one now
            why = row.ended_why or ""
            if row.successor_job_id is not None:
                why = f"replayed as job {row.successor_job_id}. {why}".strip()
            return dead_letter.discard(self.broker, row.sequence, by=row.ended_by or "", reason=why)
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error

    def _ended(self, row: DeadLetterRow) -> EndedLetter | None:
        try:
            ended = dead_letter.ended(self.broker, row.sequence)
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        # An expired one's record tells nothing; another's that had this number died at another time.
        return ended if ended is not None and ended.dead_at == row.died_at else None

    def _record(self, session: Session, row: DeadLetterRow) -> None:
        details = {"found_later": True, "by": row.ended_by or ""}
        self.trail.record(
            session,
            f"dead_letter.{row.state}",
            object_kind="dead_letter",
            object_id=str(row.dead_letter_id),
            owner_id=row.owner_id,
            details=details,
        )


def _due(*which: Any) -> Select[tuple[int]]:
    row = DeadLetterRow
    settled = or_(row.undo_until.is_(None), row.undo_until <= func.now())
    due = select(row.dead_letter_id).where(row.state != "open", row.removed_at.is_(None), settled, *which)
    return due.order_by(row.undo_until, row.dead_letter_id)


def _copy(row: DeadLetterRow, ended: EndedLetter) -> None:
    row.state, row.ended_at, row.removed_at = str(ended.outcome), ended.ended_at, func.now()
    row.ended_by, row.ended_why = ended.by or None, ended.why or None
    row.successor_message_id = ended.successor_id
    row.undo_until = None
