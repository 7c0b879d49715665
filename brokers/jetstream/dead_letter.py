"""What a person can do with dead letters: list, read, replay one or many, discard, and look back.

Every function may be called by several people and processes at once, and again after a crash: a
letter is replayed once at most, and none vanishes without a record (`list_ended`). Every one raises
TopologyError while the streams are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq.errors import BrokerError
from dramatiq.message import Message

from brokers.jetstream import browse, bulk_replay, dead_records, replaying
from brokers.jetstream.bulk_replay import LetterFilter, ReplayReport
from brokers.jetstream.burial import DeadLetter, read_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.dead_records import EndedLetter, Outcome
from brokers.jetstream.replaying import Order, Replayed

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

__all__ = [
    "DeadLetter",
    "EndedLetter",
    "Outcome",
    "ReplayReport",
    "Replayed",
    "discard",
    "ended",
    "finish_replays",
    "get",
    "list_dead",
    "list_ended",
    "replay",
    "replay_many",
    "replay_once",
]


def list_dead(
    broker: JetStreamBroker,
    limit: int = 50,
    *,
    queue: str | None = None,
    reason: str | None = None,
    actor: str | None = None,
    before: int | None = None,
) -> list[DeadLetter]:
    """The newest dead letters first, without payloads; `before` (an id) pages towards older ones.

    Costs headers only. Raises Dramatiq's connection errors.
    """
    wanted = LetterFilter(queue, reason, actor)
    return broker.connection.run(_list_dead(broker.connection.session(), limit, wanted, before))


async def _list_dead(
    session: Session, limit: int, wanted: LetterFilter, before: int | None
) -> list[DeadLetter]:
    stream = session.options.dead_letter_stream
    max_age = await _max_age(session)

    def read(stored: browse.Stored) -> DeadLetter | None:
        letter = read_letter(stored, max_age)
        return letter if wanted(letter) else None

    subject = wanted.subject(session)
    return await browse.newest_first(session, stream, subject, read, limit=limit, before=before)


def get(broker: JetStreamBroker, dead_letter_id: int) -> DeadLetter:
    """One dead letter with its payload; raises DeadLetterNotFoundError, which says what became of it."""
    session = broker.connection.session()

    async def find() -> DeadLetter:
        return await replaying.find(session, dead_letter_id, await _max_age(session))

    return broker.connection.run(find())


async def _max_age(session: Session) -> float:
    info = await session.api(f"STREAM.INFO.{session.options.dead_letter_stream}")
    return float(info["config"].get("max_age", 0)) / 1e9


def list_ended(
    broker: JetStreamBroker,
    limit: int = 50,
    *,
    queue: str | None = None,
    outcome: str | None = None,
    before: int | None = None,
) -> list[EndedLetter]:
    """Dead letters that were replayed or discarded or expired, the newest end first.

    `before` (a `record`) pages towards older ones. They are kept for dead_record_max_age_seconds,
    expired ones for dead_letter_max_age_seconds where that is shorter.
    """
    session = broker.connection.session()
    return broker.connection.run(
        dead_records.list_ended(session, limit, queue=queue, outcome=outcome, before=before)
    )


def ended(broker: JetStreamBroker, dead_letter_id: int) -> EndedLetter | None:
    """How a dead letter ended; None where it has not, or where the record has expired, too."""
    session = broker.connection.session()
    return broker.connection.run(dead_records.of_id(session, dead_letter_id))


def replay(
    broker: JetStreamBroker,
    dead_letter_id: int,
    *,
    by: str = "",
    why: str = "",
    max_replays: int | None = None,
) -> Message[Any]:
    """Send a dead letter's message again as a new one that names it; then remove the dead letter.

    In this order: a crash in between leaves both, and a repetition finishes it without sending the
    message twice. The new message's options["replay_of"] has dead_letter (the id), message_id and
    reason of what it replaces, and root (message id) and depth of the line of replays. `by` and
    `why` go into the record. `max_replays` caps the depth (None: options.max_replays).

    A deadline of the old message is not the new one's. A unique key is: while another message holds
    it, NotUniqueError names that one.

    Raises DeadLetterNotFoundError, NotReplayableError, ReplayLimitError, MessageTooLargeError,
    NotUniqueError, PublishRefusedError, QueueNotFound, and Dramatiq's connection errors; the letter
    stays then.
    """
    return replay_once(broker, dead_letter_id, by=by, why=why, max_replays=max_replays).message


def replay_once(
    broker: JetStreamBroker,
    dead_letter_id: int,
    *,
    by: str = "",
    why: str = "",
    max_replays: int | None = None,
) -> Replayed:
    """As `replay`; says whether this call stored the successor, or an earlier one, or another's, had."""
    done = replaying.replay(broker, [dead_letter_id], Order(by, why, max_replays))[dead_letter_id]
    if isinstance(done, BrokerError):
        raise done
    return done


def finish_replays(
    broker: JetStreamBroker, ids: Sequence[int], *, by: str = "", why: str = ""
) -> dict[int, EndedLetter]:
    """How letters ended, by their ids, of which somebody may have begun a replay and died.

    One whose successor is stored is recorded as replayed, `by` whom and `why`, and removed, as a repetition
    of the replay would; but nothing is sent for the others, which are left out and stay. Raises Dramatiq's
    connection errors.
    """
    return replaying.finish(broker, ids, Order(by, why))


def replay_many(  # noqa: PLR0913 (all but the letters are options with a default)
    broker: JetStreamBroker,
    ids: Iterable[int] | None = None,
    *,
    queue: str | None = None,
    reason: str | None = None,
    actor: str | None = None,
    per_second: float | None = 50.0,
    limit: int | None = None,
    stop_on_failure_share: float | None = None,
    on_progress: Callable[[ReplayReport], bool | None] | None = None,
    by: str = "",
    why: str = "",
    max_replays: int | None = None,
) -> ReplayReport:
    """Replay the letters with these ids, or all that there are now of a queue, reason or actor.

    per_second             new messages per second; None: as fast as it goes
    limit                  look at the first so many letters only, for a trial of a few
    stop_on_failure_share  stop when more than this share of at least ten letters failed (0 to 1)
    on_progress            called with the report after every few letters, and twice a second in a long
                           wait; returning False cancels

    `ids` is read a few at a time, each time just before those are sent.

    A letter that fails (not a message, over max_replays, queue unknown, unique key held) stays dead
    and is reported. When the server goes away the run stops, and says so in the report; calling it again
    sends nothing twice. Raises ValueError unless either ids or a filter is given.
    """
    wanted = LetterFilter(queue, reason, actor)
    if (ids is None) == (wanted == LetterFilter()):
        raise ValueError("give either ids or at least one of queue, reason and actor")
    if per_second is not None and not per_second > 0:
        raise ValueError(f"per_second must be greater than 0 (or None), not {per_second}")
    return bulk_replay.replay_many(
        broker,
        bulk_replay.matching(broker, wanted) if ids is None else ids,
        Order(by, why, max_replays),
        per_second=per_second,
        limit=limit,
        on_progress=on_progress,
        stop_on_failure_share=stop_on_failure_share,
    )


def discard(
    broker: JetStreamBroker, dead_letter_id: int, *, reason: str = "", by: str = ""
) -> EndedLetter | None:
    """Remove a dead letter for good, and record who did that and why; returns the record.

    One that is gone already is no error: the record says how it ended. It says "replayed" where a
    replay had sent the message and died before it could finish. None: nothing is known of that id.
    A replay at the same moment wins. Raises Dramatiq's connection errors.
    """
    return replaying.discard(broker, dead_letter_id, by=by, why=reason)
