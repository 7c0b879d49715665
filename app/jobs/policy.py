"""How often and how long each kind of job may run, and when its message is missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, case, func, text

from app.jobs.contracts import CONTRACTS
from app.storage.postgres.tables.jobs import Job

MAX_ATTEMPTS = 5
# Native code that holds the interpreter's lock so long past its job's time limit will not let go.
HUNG_GRACE_SECONDS = 60.0
BACKOFF_SECONDS = (30.0, 60.0, 120.0, 300.0)  # before the second, third, fourth and fifth attempt
_HOUR_MS = 3_600_000
_MISSED_AFTER_SECONDS = 900.0
PATIENCE = timedelta(days=1)  # a job waits so long for a provider that is not called just now


@dataclass(frozen=True, slots=True)
class Policy:
    """`time_limit_ms` ends a run; the heartbeat of its message stops there too."""

    time_limit_ms: int
    priority: int = 10  # lower runs first


_DEFAULT = Policy(time_limit_ms=_HOUR_MS // 2)
# Planning and clean-up are short and unlock other work, so they go first.
_PLANNING = Policy(time_limit_ms=_HOUR_MS // 6, priority=0)


def expected_by(delay_seconds: float = 0) -> ColumnElement[datetime]:
    """When a message that is due after the delay must have been taken, for a job's `expected_by`.

    A message on the stream is looked after by the broker, and it may wait long behind others. So the
    reconciler asks only a quarter of an hour later, and twice as late each time: a backlog is not doubled
    by its own shadow.
    """
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds) + _later_each_time("15 minutes")


def due_by(delay_seconds: float) -> ColumnElement[datetime]:
    """As `expected_by`, for a job that was put off: however often, it is missed as soon."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds + _MISSED_AFTER_SECONDS)


def taken_by() -> ColumnElement[datetime]:
    """When a message just sent must have been taken, for a job's `expected_by`.

    As above; but of the kinds that are held back few wait on the stream at a time, and all others wait for
    those to be taken: they are missed after two minutes. A job that waits for a moment is missed after that.
    """
    held = [kind for kind, contract in CONTRACTS.items() if contract.held]
    patience = case((Job.kind.in_(held), _later_each_time("2 minutes")), else_=_later_each_time("15 minutes"))
    return func.greatest(func.now(), Job.not_before) + patience


def seconds_until(moment: datetime | None) -> float:
    """How long a job that waits for a moment still waits; 0 for none, or one that has passed."""
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment is not None else 0.0


def _later_each_time(first: str) -> ColumnElement[timedelta]:
    return text(f"interval '{first}'") * func.power(2, func.least(Job.publication, 6))


class Policies:
    """The policy of every kind of job.

    PROCESSING_TIMEOUT_SECS ends a map's child process; the job itself gets ten minutes more, for fetching
    vectors and storing the result.
    """

    def __init__(
        self, processing_timeout_seconds: int, backoff_seconds: tuple[float, ...] = BACKOFF_SECONDS
    ) -> None:
        self.backoff_seconds = backoff_seconds
        self._of = {
            "plan_collection_transform": _PLANNING,
            "plan_dataset_transform": _PLANNING,
            "build_visualization": Policy(time_limit_ms=processing_timeout_seconds * 1000 + _HOUR_MS // 6),
        }

    def of(self, kind: str) -> Policy:
        """The policy of a kind of job."""
        return self._of.get(kind, _DEFAULT)
