"""Replaying many dead letters at a steady rate, each exactly once, with a report at the end."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dramatiq.errors import BrokerConnectionError, BrokerError

from brokers.jetstream import browse, replaying
from brokers.jetstream.burial import DeadLetter, read_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import DeadLetterNotFoundError
from brokers.jetstream.replaying import Order
from brokers.jetstream.topology import dead_subject, token

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_PAGE, _MOST_AT_ONCE = 500, 20
_LONGEST_LAG_SECONDS = 1.0
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

    def wait(self) -> None:
        """Until the next message may be sent."""
        time.sleep(max(0.0, self._due - time.monotonic()))

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
    try:
        while chunk := list(itertools.islice(left, _at_once(per_second))):
            pace.wait()
            sent = _replay(broker, report, chunk, order)
            pace.spend(sent)
            report.seconds = time.monotonic() - begin
            if on_progress is not None and on_progress(report) is False:
                report.stopped = "cancelled"
                break
            if _fails_too_often(report, stop_on_failure_share):
                report.stopped = f"{report.failure_share:.0%} of the letters failed"
                break
    except BrokerConnectionError as error:
        report.stopped = str(error)
    log.info("%s", report)
    return report


def _at_once(per_second: float | None) -> int:
    """Letters of a tenth of a second, and not too many to notice quickly that a run is cancelled."""
    return _MOST_AT_ONCE if per_second is None else max(1, min(_MOST_AT_ONCE, int(per_second / 10)))


def _replay(broker: JetStreamBroker, report: ReplayReport, ids: list[int], order: Order) -> int:
    """Replay some letters and report; how many messages were sent."""
    named_once = [key for key in dict.fromkeys(ids) if key not in report.replayed]
    before = len(report.replayed)
    for key, done in replaying.replay(broker, named_once, order).items():
        if isinstance(done, DeadLetterNotFoundError):
            report.skipped[key] = str(done)
        elif isinstance(done, BrokerError):
            report.failed[key] = str(done)
        elif done.stored:
            report.replayed[key] = done.message.message_id
        else:
            report.skipped[key] = f"It was replayed as message {done.message.message_id} already."
    return len(report.replayed) - before


def _fails_too_often(report: ReplayReport, share: float | None) -> bool:
    tried = len(report.replayed) + len(report.failed)
    return share is not None and tried >= _FEWEST_BEFORE_STOP and report.failure_share > share
