"""Queues as operators see them: depth and age, who works, pauses, schedules, drift of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dramatiq.errors import BrokerConnectionError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import ForbiddenError, InvalidInputError, NotFoundError, UnavailableError
from app.jobs.pools import POOLS, Pool
from app.security.principal import Principal, Role
from app.services.audit import Audit
from app.services.audit_trail import FAILURE
from app.storage.postgres.queries.queue_flow import WINDOW, Flow, Running, flows, running
from app.storage.postgres.session import Database
from app.storage.postgres.tables import QueuePause
from brokers import (
    Change,
    JetStreamBroker,
    QueueSurvey,
    TopologyError,
    WorkerSeen,
    control,
    recurring,
    survey,
)
from brokers.jetstream.recurring import Recurring

# The server drops messages that nobody took for a week; the reconciler sends them again, but late.
LONGEST_PAUSE = timedelta(days=3)
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a queue hands out nothing. `reason` and `by` are None for a pause that was not made here."""

    until: datetime
    reason: str | None
    by: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue and its pool: messages as the broker counts them, jobs as Postgres does."""

    pool: Pool
    messages: QueueSurvey
    jobs: Flow
    pause: Pause | None
    workers: int
    threads: int

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest waits: a job without a message waits, too."""
        moments = [one for one in (self.jobs.oldest_waiting, self.messages.oldest_ready) if one is not None]
        return min(moments, default=None)

    def per_minute(self, number: int) -> float:
        """Of a number of the window, how many a minute."""
        return number / (WINDOW.total_seconds() / 60)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A process at a queue and what it runs. Of others' jobs only their number is told: `hidden`."""

    seen: WorkerSeen
    runs: tuple[Running, ...]
    hidden: int


@dataclass(frozen=True, slots=True)
class QueueBoard:
    """All queues and workers at one moment."""

    queues: tuple[QueueView, ...]
    workers: tuple[WorkerView, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a stream or consumer: what is asked for and, where it differs, what the server has."""

    field: str
    wanted: Any
    differs: bool = False
    found: Any = None


@dataclass(frozen=True, slots=True)
class Configured:
    """A stream or consumer as it is meant to be. `missing`: the server has none of that name."""

    kind: str
    name: str
    settings: tuple[Setting, ...]
    missing: bool

    @property
    def drifts(self) -> bool:
        """Whether `flask streams apply` would change it."""
        return self.missing or any(setting.differs for setting in self.settings)


@dataclass(frozen=True, slots=True)
class Topology:
    """What `flask streams apply` asks for and what it would change."""

    wanted: Callable[[], Sequence[tuple[str, str, dict[str, Any]]]]
    changes: Callable[[], Sequence[Change]]


@dataclass(frozen=True, slots=True)
class Queues:
    """Verbs on queues. Looking is for everybody, pausing stops everybody's work and is for admins."""

    database: Database
    broker: JetStreamBroker
    audit: Audit
    topology: Topology

    def board(self, principal: Principal) -> QueueBoard:
        """Everything at a glance; raises UnavailableError."""
        with _nats():
            seen, workers = survey.queues(self.broker), survey.workers(self.broker)
        with self.database.transaction() as session:
            found, runs = flows(session), running(session)
            pauses = {one.queue: _newest(session, one.queue) for one in seen if one.paused_until}
        messages = {one.queue: one for one in seen}
        views = tuple(
            QueueView(
                pool=pool,
                messages=messages[pool.queue],
                jobs=found.queue(pool.queue),
                pause=_pause(messages[pool.queue], pauses.get(pool.queue)),
                workers=sum(worker.queue == pool.queue for worker in workers),
                threads=sum(worker.threads or 0 for worker in workers if worker.queue == pool.queue),
            )
            for pool in POOLS.values()
        )
        return QueueBoard(views, tuple(_worker(principal, worker, runs) for worker in workers))

    def pause(self, principal: Principal, queue: str, until: datetime, reason: str) -> None:
        """Hand out nothing of a queue until a moment; what runs goes on, and what comes is kept.

        Raises ForbiddenError, NotFoundError, InvalidInputError (a reason is missing, the moment has passed
        or is more than `LONGEST_PAUSE` away) and UnavailableError; then nothing is paused.
        """
        pool, reason = _pool(principal, queue), reason.strip()
        _check_pause(until, reason)
        with self.database.transaction() as session:
            row = QueuePause(queue=pool.queue, until=until, reason=reason, paused_by=principal.owner_id)
            session.add(row)
            self._note(session, principal, "queue.paused", pool, until)
        with self._noting_failure("queue.paused", pool), _nats():
            control.pause(self.broker, pool.queue, until)

    def resume(self, principal: Principal, queue: str) -> None:
        """End a pause now; no error where there is none. Raises as `pause`."""
        pool = _pool(principal, queue)
        with self.database.transaction() as session:
            row = _newest(session, pool.queue)
            if row is not None and row.resumed_at is None:
                row.resumed_by, row.resumed_at = principal.owner_id, datetime.now(UTC)
            self._note(session, principal, "queue.resumed", pool)
        with self._noting_failure("queue.resumed", pool), _nats():
            control.resume(self.broker, pool.queue)

    def schedules(self) -> list[Recurring]:
        """What the server sends by the clock; raises UnavailableError."""
        with _nats():
            return [one for pool in POOLS.values() for one in recurring.schedules(self.broker, pool.queue)]

    def configuration(self) -> list[Configured]:
        """Streams and consumers as they are meant to be, with what differs; raises UnavailableError."""
        with _nats():
            changes = list(self.topology.changes())
        return [_configured(kind, name, fields, changes) for kind, name, fields in self.topology.wanted()]

    def _note(
        self, session: Session, principal: Principal, action: str, pool: Pool, until: datetime | None = None
    ) -> None:
        details = {"until": until.isoformat()} if until else {}
        self.audit.trail.record(
            session,
            action,
            object_kind="queue",
            object_id=pool.queue,
            owner_id=principal.owner_id,
            details=details,
        )

    @contextmanager
    def _noting_failure(self, action: str, pool: Pool) -> Iterator[None]:
        """The log says what was asked for before it is done; it must say as well that it was not."""
        try:
            yield
        except UnavailableError:
            self.audit.note(action, object_kind="queue", object_id=pool.queue, outcome=FAILURE)
            raise


def _pool(principal: Principal, queue: str) -> Pool:
    if not principal.role.covers(Role.ADMIN):
        raise ForbiddenError(f"pausing a queue stops everybody's work: it needs the role {Role.ADMIN}")
    for pool in POOLS.values():
        if pool.queue == queue:
            return pool
    raise NotFoundError(f"no queue {queue!r}; there are {', '.join(pool.queue for pool in POOLS.values())}")


def _check_pause(until: datetime, reason: str) -> None:
    now = datetime.now(UTC)
    if not reason or len(reason) > LONGEST_REASON:
        raise InvalidInputError(
            f"say in 1 to {LONGEST_REASON} characters why the queue is paused", field="reason"
        )
    if not now < until <= now + LONGEST_PAUSE:
        raise InvalidInputError(
            f"until must lie in the future, at most {LONGEST_PAUSE.days} days away", field="until"
        )


def _newest(session: Session, queue: str) -> QueuePause | None:
    mine = select(QueuePause).where(QueuePause.queue == queue)
    return session.scalar(mine.order_by(QueuePause.queue_pause_id.desc()).limit(1))


def _pause(seen: QueueSurvey, row: QueuePause | None) -> Pause | None:
    if seen.paused_until is None:
        return None
    if row is None or row.resumed_at or abs(row.until - seen.paused_until) > timedelta(minutes=1):
        return Pause(seen.paused_until, None, None, None)  # paused from elsewhere
    return Pause(seen.paused_until, row.reason, row.paused_by, row.paused_at)


def _worker(principal: Principal, worker: WorkerSeen, runs: Sequence[Running]) -> WorkerView:
    its = [run for run in runs if run.worker == worker.name]
    sees_all = principal.role.covers(Role.ADMIN)
    shown = tuple(run for run in its if sees_all or run.owner_id == principal.owner_id)
    return WorkerView(worker, shown, hidden=len(its) - len(shown))


def _configured(kind: str, name: str, fields: dict[str, Any], changes: Sequence[Change]) -> Configured:
    mine = {change.field: change for change in changes if (change.kind, change.name) == (kind, name)}
    settings = (
        Setting(field, wanted, field in mine, mine[field].before if field in mine else None)
        for field, wanted in fields.items()
    )
    return Configured(kind, name, tuple(settings), missing=None in mine)


@contextmanager
def _nats() -> Iterator[None]:
    try:
        yield
    except (BrokerConnectionError, TopologyError) as error:
        raise UnavailableError(f"NATS: {error}") from error
