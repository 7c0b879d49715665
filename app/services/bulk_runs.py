"""Working off bulk jobs over dead letters, a little at a time, so that it may end and go on anywhere.

Whoever works on a bulk job holds a lease on it and renews that with every step. Should two work on it at
once, because the first was only slow, nothing happens twice: the broker replays a letter once at most, and a
letter of the list is counted by whoever takes it from "waiting". What a killed worker had sent and not yet
written down is found in the records of the stream, which name the bulk job.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from dramatiq.errors import BrokerConnectionError
from sqlalchemy import BigInteger, ColumnElement, Text, and_, cast, column, func, or_, select, update, values
from sqlalchemy.orm import Session

from app.errors import UnavailableError
from app.observability import job_metrics, tracing
from app.observability.logging import bound
from app.security.audit import Origin, acting
from app.services import bulk_outcomes
from app.services.audit_trail import AuditTrail
from app.services.job_replay import obstacles
from app.services.letter_ends import LetterEnds
from app.storage.postgres.session import Database, after_commit
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow
from brokers import JetStreamBroker, ReplayReport, TopologyError, dead_feed, dead_letter

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
_STEP_SECONDS = 0.5  # what was sent is written down so often
_PAGE = 200
_DISCARDS_AT_ONCE = 500
_FEWEST_BEFORE_STOP = 10  # a share of fewer letters says little

Verdict = tuple[str, str | None]  # the item's state, and its detail


@dataclass(frozen=True, slots=True)
class Task:
    """A bulk job in this worker's hands. `left` caps how many letters it may try: a canary's rest.

    `trace` is that of the request which began it.
    """

    bulk_id: int
    act: str
    by: str
    why: str
    owner_id: str | None
    per_second: float
    left: int | None
    trace: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BulkRuns:
    """Works on bulk jobs as `worker`. `undo_period` is how long a discard can be undone."""

    database: Database
    trail: AuditTrail
    broker: JetStreamBroker
    ends: LetterEnds
    undo_period: timedelta
    max_replays: int
    worker: str

    def run_next(self, keep_on: Callable[[], bool] = lambda: True) -> bool:
        """Work on a bulk job that nobody has, until it ends or pauses or `keep_on` says no.

        False where there is none. Raises UnavailableError; the job goes on later then.
        """
        task = self._claim()
        if task is None:
            return False
        told = {"bulk.id": task.bulk_id}
        with (
            acting(Origin(task.by, task.owner_id)),
            bound(bulk_id=task.bulk_id, **_request(task)),
            tracing.span(f"bulk {task.act}", "consumer", headers=task.trace, attributes=told),
            tracing.Steps(f"bulk {task.act} step") as steps,
        ):
            try:
                (self._discard if task.act == "discard" else self._replay)(task, keep_on, steps)
            finally:
                self._release(task)
        return True

    def _claim(self) -> Task | None:
        bulk = DeadLetterBulk
        free = or_(bulk.leased_until.is_(None), bulk.leased_until < func.now())
        next_one = select(bulk).where(bulk.state == "running", free).order_by(bulk.bulk_id).limit(1)
        with self.database.transaction() as session:
            row = session.scalar(next_one.with_for_update(skip_locked=True))
            if row is None:
                return None
            row.worker, row.leased_until = self.worker, func.now() + LEASE
            tried = row.done + row.skipped + row.failed
            left = row.canary - tried if tried < row.canary else None
            why = f"bulk {row.bulk_id}: {row.why}"
            by = row.started_by or row.created_by
            return Task(row.bulk_id, row.act, by, why, row.owner_id, row.per_second, left, dict(row.trace))

    def _discard(self, task: Task, keep_on: Callable[[], bool], steps: tracing.Steps) -> None:
        left = task.left
        while keep_on():
            number = _DISCARDS_AT_ONCE if left is None else min(left, _DISCARDS_AT_ONCE)
            with self.database.transaction() as session:
                ids = _waiting(session, task.bulk_id, 0, number)
                gone = self._discard_some(session, task, [row.dead_letter_id for row in ids])
                verdicts: dict[int, Verdict] = {
                    row.dead_letter_id: ("skipped", _was(row.state))
                    for row in ids
                    if row.dead_letter_id not in gone
                }
                verdicts |= dict.fromkeys(gone, ("done", None))
                goes_on = self._settle(session, task, verdicts)
            left = None if left is None else left - len(ids)
            if not goes_on or not ids or left == 0:
                return
            steps.next()

    def _discard_some(self, session: Session, task: Task, ids: Sequence[int]) -> set[int]:
        row = DeadLetterRow
        held = select(row.dead_letter_id).where(row.dead_letter_id.in_(ids), row.state == "open")
        locked = held.order_by(row.dead_letter_id).with_for_update().cte("held")
        discarded = (
            update(row)
            .where(row.dead_letter_id == locked.c.dead_letter_id)
            .values(
                state="discarded",
                ended_at=func.now(),
                ended_by=task.by,
                ended_why=task.why,
                undo_until=func.now() + self.undo_period,
                bulk_id=task.bulk_id,
            )
            .returning(row.dead_letter_id)
            .execution_options(synchronize_session=False)
        )
        return set(session.scalars(discarded))

    def _replay(self, task: Task, keep_on: Callable[[], bool], steps: tracing.Steps) -> None:
        with self.database.transaction() as session:
            if not self._settle(session, task, {}):  # what it sent before may have died again since
                return
        try:
            work = _Replaying(self, task, keep_on, dead_feed.lifetime(self.broker).created, steps)
            report = dead_letter.replay_many(
                self.broker,
                work.sequences(),
                per_second=task.per_second,
                on_progress=work.progress,
                by=task.by,
                why=task.why,
                max_replays=self.max_replays,
            )
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        work.write(report)

    def _settle(self, session: Session, task: Task, verdicts: Mapping[int, Verdict]) -> bool:
        """Write down what became of letters; whether the job goes on, and with us."""
        bulk = session.scalar(
            select(DeadLetterBulk).where(DeadLetterBulk.bulk_id == task.bulk_id).with_for_update()
        )
        if bulk is None:
            return False
        counted = _mark_items(session, task.bulk_id, verdicts)
        bulk.done += counted.get("done", 0)
        bulk.skipped += counted.get("skipped", 0)
        bulk.failed += counted.get("failed", 0)
        after_commit(session, lambda: job_metrics.bulk_settled(task.act, counted))
        if counted.get("done"):
            verb = "replayed" if task.act == "replay" else "discarded"
            self._record(session, bulk, f"dead_letter.{verb}", count=counted["done"])
        self._stop_if_bad(session, bulk)
        if bulk.state != "running" or bulk.worker != self.worker:
            return False
        bulk.leased_until = func.now() + LEASE
        return True

    def _stop_if_bad(self, session: Session, bulk: DeadLetterBulk) -> None:
        tried, share = bulk.done + bulk.failed, bulk.stop_on_failure_share
        if bulk.state != "running" or share is None or tried < _FEWEST_BEFORE_STOP:
            return
        again = bulk_outcomes.died_again(session, bulk.bulk_id) if bulk.act == "replay" else 0
        if (bulk.failed + again) / tried > share:
            died = f", {again} of them by dying again" if again else ""
            bulk.state, bulk.note = "stopped", f"{bulk.failed + again} of {tried} letters failed{died}"
            self._record(session, bulk, "dead_letter_bulk.stopped", failed=bulk.failed, died_again=again)

    def _release(self, task: Task) -> None:
        """Say how it stands, and let go of it."""
        with self.database.transaction() as session:
            bulk = session.scalar(
                select(DeadLetterBulk).where(DeadLetterBulk.bulk_id == task.bulk_id).with_for_update()
            )
            if bulk is None or bulk.worker != self.worker:
                return
            bulk.worker = bulk.leased_until = None
            if bulk.state != "running":
                return
            tried = bulk.done + bulk.skipped + bulk.failed
            if not _waiting(session, bulk.bulk_id, 0, 1):
                bulk.state, bulk.finished_at = "finished", func.now()
                self._record(session, bulk, "dead_letter_bulk.finished", done=bulk.done, failed=bulk.failed)
            elif task.left is not None and tried >= bulk.canary:
                bulk.state = "paused"
                bulk.note = f"the first {tried} are done: look how they fare, then resume or cancel"
                self._record(session, bulk, "dead_letter_bulk.paused", canary=bulk.canary)

    def _record(self, session: Session, bulk: DeadLetterBulk, action: str, **details: int) -> None:
        self.trail.record(
            session,
            action,
            object_kind="dead_letter_bulk",
            object_id=str(bulk.bulk_id),
            owner_id=bulk.owner_id,
            details=details,
        )


@dataclass(slots=True)
class _Replaying:
    """One go at a bulk replay: hands the broker sequences, and writes down what it reports."""

    runs: BulkRuns
    task: Task
    keep_on: Callable[[], bool]
    life: str
    steps: tracing.Steps
    ids: dict[int, int] = field(default_factory=dict)  # by sequence, of letters not written down yet
    verdicts: dict[int, Verdict] = field(default_factory=dict)  # of those that need no sending
    written: float = field(default_factory=time.monotonic)

    def sequences(self) -> Iterator[int]:
        """Sequences of the letters that still wait, oldest first."""
        return itertools.islice(self._all(), self.task.left)

    def progress(self, report: ReplayReport) -> bool:
        """Called after every few letters; False ends it."""
        if not self.keep_on():
            return False
        return time.monotonic() - self.written < _STEP_SECONDS or self.write(report)

    def write(self, report: ReplayReport) -> bool:
        """Write down what is new in the report; whether to go on."""
        fresh = {self.ids.pop(one): one for one in list(self.ids) if _is_in(report, one)}
        sent = {key: report.replayed[one] for key, one in fresh.items() if one in report.replayed}
        failed = {key: report.failed[one] for key, one in fresh.items() if one in report.failed}
        others = [key for key, one in fresh.items() if one in report.skipped]
        if others:
            self.runs.ends.mirror(others)
        with self.runs.database.transaction() as session:
            _mark_replayed(session, self.task, sent)
            found = _found(session, self.task, others)
            verdicts: dict[int, Verdict] = {
                **self.verdicts,
                **{key: ("done", successor) for key, successor in sent.items()},
                **{key: ("failed", why) for key, why in failed.items()},
                **found,
            }
            goes_on = self.runs._settle(session, self.task, verdicts)  # noqa: SLF001 its other half
        self.verdicts.clear()
        self.written = time.monotonic()
        self.steps.next()
        return goes_on

    def _all(self) -> Iterator[int]:
        """Looked at a tenth of a second before they are sent: a discard, or a pause, may come any time."""
        few, after = max(1, min(_PAGE, int(self.task.per_second / 10))), 0
        most = few
        while found := self._look(after, most):
            sent = 0
            for key, sequence, verdict in found:
                if sent == few:
                    break
                after = key
                if verdict is not None:
                    self.verdicts[key] = verdict
                    continue
                sent += 1
                self.ids[sequence] = key
                yield sequence
            most = few if sent else min(_PAGE, 2 * most)  # many that ended meanwhile cost no time

    def _look(self, after: int, most: int) -> list[tuple[int, int, Verdict | None]]:
        """The next letters by id, with sequence and what hinders them; none once it is not ours to go on."""
        ours = (DeadLetterBulk.state == "running", DeadLetterBulk.worker == self.runs.worker)
        with self.runs.database.transaction() as session:
            rows = _waiting(session, self.task.bulk_id, after, most, *ours)
            of_jobs = obstacles(session, (row.job_id for row in rows if row.job_id))
            return [(row.dead_letter_id, row.sequence, self._hindrance(row, of_jobs)) for row in rows]

    def _hindrance(self, row: DeadLetterRow, of_jobs: Mapping[UUID, str]) -> Verdict | None:
        """Why a letter is not sent at all."""
        if row.state != "open":
            return "skipped", _was(row.state)
        if row.stream_life != self.life:
            return "failed", "the letter is gone with its stream, which was made anew since"
        if row.depth >= self.runs.max_replays:
            return "failed", f"it comes of {row.depth} replays that all died"
        why = of_jobs.get(row.job_id) if row.job_id else None
        return None if why is None else ("skipped", why)


def _request(task: Task) -> dict[str, str]:
    """The request that began it, for the log lines, and for those of what it causes."""
    return {name: value for name, value in task.trace.items() if name == "request_id"}


def _is_in(report: ReplayReport, sequence: int) -> bool:
    return sequence in report.replayed or sequence in report.failed or sequence in report.skipped


def _waiting(
    session: Session, bulk_id: int, after: int, most: int, *bulk_is: ColumnElement[bool]
) -> Sequence[DeadLetterRow]:
    bulk, item, row = DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow
    waiting = (item.bulk_id == bulk_id, item.state == "waiting", item.dead_letter_id > after)
    statement = select(row).join(item, item.dead_letter_id == row.dead_letter_id)
    statement = statement.join(bulk, bulk.bulk_id == item.bulk_id).where(*waiting, *bulk_is)
    return session.scalars(statement.order_by(item.dead_letter_id).limit(most)).all()


def _mark_items(session: Session, bulk_id: int, verdicts: Mapping[int, Verdict]) -> dict[str, int]:
    """How many items took which state; those that somebody else has counted are not counted again."""
    if not verdicts:
        return {}
    told = values(column("id", BigInteger), column("state", Text), column("detail", Text), name="told").data(
        [(key, state, detail) for key, (state, detail) in sorted(verdicts.items())]
    )
    item = DeadLetterBulkItem
    states = session.scalars(
        update(item)
        .where(item.bulk_id == bulk_id, item.dead_letter_id == told.c.id, item.state == "waiting")
        .values(state=told.c.state, detail=cast(told.c.detail, Text))
        .returning(item.state)
        .execution_options(synchronize_session=False)
    ).all()
    return {state: states.count(state) for state in set(states)}


def _mark_replayed(session: Session, task: Task, sent: Mapping[int, str]) -> None:
    """Also those discarded since they were sent: their messages must not seem to be held back."""
    if not sent:
        return
    row = DeadLetterRow
    told = values(column("id", BigInteger), column("successor", Text), name="told").data(sorted(sent.items()))
    locked = select(row.dead_letter_id).where(row.dead_letter_id.in_(sent)).order_by(row.dead_letter_id)
    session.execute(locked.with_for_update())
    session.execute(
        update(row)
        .where(and_(row.dead_letter_id == told.c.id, row.state.in_(("open", "discarded"))))
        .values(
            state="replayed",
            ended_at=func.now(),
            ended_by=task.by,
            ended_why=task.why,
            undo_until=None,
            removed_at=func.now(),
            successor_message_id=told.c.successor,
            bulk_id=task.bulk_id,
        )
        .execution_options(synchronize_session=False)
    )


def _found(session: Session, task: Task, ids: Sequence[int]) -> dict[int, Verdict]:
    """Letters that had ended before they were sent: by this bulk job before it was killed, or otherwise."""
    row = DeadLetterRow
    ours = and_(row.state == "replayed", row.ended_why == task.why)
    session.execute(
        update(row)
        .where(row.dead_letter_id.in_(ids), ours)
        .values(bulk_id=task.bulk_id)
        .execution_options(synchronize_session=False)
    )
    columns = (row.dead_letter_id, row.state, row.successor_message_id, ours)
    rows = session.execute(select(*columns).where(row.dead_letter_id.in_(ids)))
    return {
        key: ("done", successor) if is_ours else ("skipped", _was(state))
        for key, state, successor, is_ours in rows
    }


def _was(state: str) -> str:
    return "it is not on its stream any more" if state == "open" else f"it was {state} already"
