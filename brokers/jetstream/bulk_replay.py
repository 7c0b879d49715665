"""Replaying many dead letters at a steady rate, each exactly once, with a report at the end."""

from __future__ import annotations

import contextvars
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dramatiq.errors import BrokerConnectionError, BrokerError

from brokers.jetstream import browse, replaying
from brokers.jetstream.burial import DeadLetter, read_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import DeadLetterNotFoundError
from brokers.jetstream.replaying import Order, Replayed
from brokers.jetstream.topology import dead_subject, token

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_Done = dict[int, Replayed | BrokerError]

_PAGE, _MOST_AT_ONCE = 500, 20
_LONGEST_LAG_SECONDS = 1.0
_LANE_PER_SECOND = 125
_LOOK_SECONDS = 0.5  # between two questions whether to go on, in a long wait
_FEWEST_BEFORE_STOP = 10  # a share of fewer letters than this says little


@dataclass
class ReplayReport:
    """What became of each letter, by its id; `stopped` says why a run ended before its letters did."""

    replayed: dict[int, str] = field(default_factory=dict)  # the successor's message id
    skipped: dict[int, str] = field(default_factory=dict)  # ended by somebody else: how
    failed: dict[int, str] = field(default_factory=dict)  # still dead: why
    stopped: str | None = None
    seconds: float = 0.0

    @property
    def failure_share(self) -> float:
        """Failed letters among those that were tried, 0 to 1."""
        tried = len(self.replayed) + len(self.failed)
        return len(self.failed) / tried if tried else 0.0

    def __str__(self) -> str:
        counts = f"replayed {len(self.replayed)} dead letters in {self.seconds:.1f} s"
        others = f"skipped {len(self.skipped)}, failed {len(self.failed)}"
        return f"{counts}, {others}" + (f"; stopped: {self.stopped}" if self.stopped else "")


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters: of one queue, with one reason, of one actor; None means any."""

    queue: str | None = None
    reason: str | None = None
    actor: str | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        wanted = (self.queue, letter.queue), (self.reason, letter.reason), (self.actor, letter.actor)
        return all(want is None or want == have for want, have in wanted)

    def subject(self, session: Session) -> str:
        """The subject on which all of them lie."""
        return dead_subject(session.options, token(self.queue) if self.queue else "*")


class _Pace:
    """Lets a caller through `per_second` times a second, without a burst after a long wait."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._due = time.monotonic()

    def wait(self, goes_on: Callable[[], bool]) -> bool:
        """Until the next message may be sent; False once `goes_on`, which a long wait asks often, says no."""
        is_long = self._due - time.monotonic() > _LOOK_SECONDS
        while (left := self._due - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            if is_long and not goes_on():
                return False
        return True

    def spend(self, messages: int) -> None:
        """So many were sent; what sends nothing costs no time."""
        self._due = max(self._due, time.monotonic() - _LONGEST_LAG_SECONDS) + self._gap * messages


def matching(broker: JetStreamBroker, wanted: LetterFilter) -> Iterator[int]:
    """The ids of the letters there are now, oldest first; what dies again meanwhile is left out."""
    session = broker.connection.session()
    stream, subject = session.options.dead_letter_stream, wanted.subject(session)
    info = broker.connection.run(session.api(f"STREAM.INFO.{stream}"))
    start, end = int(info["state"]["first_seq"]), int(info["state"]["last_seq"]) + 1
    while start < end:
        page = broker.connection.run(browse.between(session, stream, subject, start, end, limit=_PAGE))
        yield from (stored.sequence for stored in page if wanted(read_letter(stored, 0)))
        start = page[-1].sequence + 1 if page else end


def replay_many(
    broker: JetStreamBroker,
    ids: Iterable[int],
    order: Order,
    *,
    per_second: float | None,
    limit: int | None,
    on_progress: Callable[[ReplayReport], bool | None] | None,
    stop_on_failure_share: float | None,
) -> ReplayReport:
    """Replay the letters a few at a time; see dead_letter.replay_many."""
    report, begin, pace = ReplayReport(), time.monotonic(), _Pace(per_second)
    left = itertools.islice(ids, limit)
    lanes = _Lanes(broker, order, report, _most_lanes(per_second))

    def goes_on() -> bool:
        report.seconds = time.monotonic() - begin
        if on_progress is not None and on_progress(report) is False:
            report.stopped = "cancelled"
        elif _fails_too_often(report, stop_on_failure_share):
            report.stopped = f"{report.failure_share:.0%} of the letters failed"
        return report.stopped is None

    try:
        with lanes:
            # The ids are taken after the wait: whoever hands them out may decide at the last moment.
            while pace.wait(goes_on) and (chunk := list(itertools.islice(left, _at_once(per_second)))):
                pace.spend(lanes.send(chunk))
                if not goes_on():
                    break
    except BrokerConnectionError as error:
        report.stopped = str(error)
    if lanes.late and report.stopped is None:
        goes_on()
    log.info("%s", report)
    return report


def _at_once(per_second: float | None) -> int:
    """Letters of a tenth of a second, and not too many to notice quickly that a run is cancelled."""
    return _MOST_AT_ONCE if per_second is None else max(1, min(_MOST_AT_ONCE, int(per_second / 10)))


def _most_lanes(per_second: float | None) -> int:
    """Chunks on their way at a time: one does some two hundred letters a second on a busy server."""
    return 1 if per_second is None else max(1, math.ceil(per_second / _LANE_PER_SECOND))


class _Lanes:
    """Chunks on their way, and what became of those that arrived, in their order, in the report.

    At its end it waits for all. Raises Dramatiq's connection errors.
    """

    def __init__(self, broker: JetStreamBroker, order: Order, report: ReplayReport, most: int) -> None:
        self._broker, self._order, self._report, self._most = broker, order, report, most
        self._pool = ThreadPoolExecutor(most)
        self._under_way: deque[tuple[int, Future[_Done]]] = deque()
        self.late = 0  # chunks that arrived after the last one was sent

    def send(self, ids: list[int]) -> int:
        """Send some letters on; how many messages that is, less those that turned out to be none."""
        named_once = [key for key in dict.fromkeys(ids) if key not in self._report.replayed]
        here = contextvars.copy_context()
        sent = self._pool.submit(here.run, replaying.replay, self._broker, named_once, self._order)
        self._under_way.append((len(named_once), sent))
        return len(named_once) - (self._arrived() if len(self._under_way) >= self._most else 0)

    def _arrived(self) -> int:
        """Note the oldest chunk; how many of its letters sent nothing."""
        number, sent = self._under_way.popleft()
        return number - _note(self._report, sent.result())

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way."""
        problem: BrokerConnectionError | None = None
        while self._under_way:
            try:
                self._arrived()
            except BrokerConnectionError as error:
                problem = error
            self.late += 1
        self._pool.shutdown()
        if problem is not None:
            raise problem


def _note(report: ReplayReport, done: _Done) -> int:
    """What became of some letters; how many messages were sent."""
    before = len(report.replayed)
    for key, outcome in done.items():
        if isinstance(outcome, DeadLetterNotFoundError):
            report.skipped[key] = str(outcome)
        elif isinstance(outcome, BrokerError):
            report.failed[key] = str(outcome)
        elif outcome.stored:
            report.replayed[key] = outcome.message.message_id
        else:
            report.skipped[key] = f"It was replayed as message {outcome.message.message_id} already."
    return len(report.replayed) - before


def _fails_too_often(report: ReplayReport, share: float | None) -> bool:
    tried = len(report.replayed) + len(report.failed)
    return share is not None and tried >= _FEWEST_BEFORE_STOP and report.failure_share > share
