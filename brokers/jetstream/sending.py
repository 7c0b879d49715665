"""How messages are enqueued: prepared one by one, sent many at a time, and counted one by one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message

from brokers.jetstream import unique
from brokers.jetstream.errors import JetStreamError, PublishRefusedError
from brokers.jetstream.message import attempt_of
from brokers.jetstream.oddities import note_options, note_schedule
from brokers.jetstream.outgoing import outgoing, unique_key
from brokers.jetstream.publisher import Outgoing
from brokers.jetstream.schedule import delay_until

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_MOST_AT_ONCE = 5_000  # messages whose clocks run at a time
_MOST_TRIES = 5  # for a unique key whose holder is gone whenever we look


class NotAllStoredError(JetStreamError):
    """Some messages of an `enqueue_many` are not stored, for the reasons in `failed`.

    stored    the messages that are stored and confirmed, in their order
    failed    the others' ids, each with the error that `enqueue` would have raised for it
    """

    def __init__(self, stored: Sequence[Message[Any]], failed: dict[str, Exception]) -> None:
        self.stored, self.failed = list(stored), dict(failed)
        message_id, error = next(iter(failed.items()))
        super().__init__(
            f"{len(stored)} messages are stored and {len(failed)} are not, the first of them {message_id}: "
            f"{type(error).__name__}: {error}"
        )


class _Prepared(NamedTuple):
    message: Message[Any]
    delay: int | None
    outgoing: Outgoing


def send(
    broker: JetStreamBroker, messages: Iterable[Message[Any]], delay: int | None
) -> tuple[list[Message[Any]], dict[str, Exception]]:
    """Store messages in their order: those that are stored, and the others' ids with their errors."""
    stored: list[Message[Any]] = []
    failed: dict[str, Exception] = {}
    remaining = iter(messages)
    while chunk := list(itertools.islice(remaining, _MOST_AT_ONCE)):
        prepared = _prepare_all(broker, chunk, delay, failed)
        for one, error in zip(prepared, _publish(broker, prepared), strict=True):
            if error is not None:
                failed[one.message.message_id] = error
                continue
            stored.append(one.message)
            broker.emit_after("enqueue", one.message, one.delay)
    return stored, failed


def _prepare_all(
    broker: JetStreamBroker, messages: list[Message[Any]], delay: int | None, failed: dict[str, Exception]
) -> list[_Prepared]:
    prepared = []
    for message in messages:
        try:
            prepared.append(_prepare(broker, message, delay))
        except Exception as error:  # noqa: BLE001 (its sender gets it)
            failed[message.message_id] = error
    return prepared


def _prepare(broker: JetStreamBroker, message: Message[Any], delay: int | None) -> _Prepared:
    spec = broker.spec(message.queue_name)
    message = message.copy()
    note_options(message)
    eta = message.options.pop("eta", None)
    note_schedule(message, eta, delay)
    eta_delay = delay_until(eta)
    delay = eta_delay if delay is None else delay
    broker.emit_before("enqueue", message, delay)
    if attempt_of(message) > 0 and unique_key(message) is not None:
        broker.connection.run(unique.prolong(broker.connection.session(), spec, message, delay or 0))
    return _Prepared(message, delay, outgoing(broker.options, spec, message, delay))


def _publish(broker: JetStreamBroker, prepared: list[_Prepared]) -> list[Exception | None]:
    """What became of each, None for stored."""
    if not prepared:
        return []
    errors = broker.connection.publish([one.outgoing for one in prepared])
    away: Exception | None = None  # then the others need not ask and wait, too
    for number, error in enumerate(errors):
        if isinstance(error, PublishRefusedError):
            errors[number] = away or _look_again(broker, prepared[number], error)
            away = errors[number] if _is_away(errors[number]) else None
    return errors


def _look_again(broker: JetStreamBroker, refused: _Prepared, error: Exception | None) -> Exception | None:
    """None if the message is stored after all, or now that its unique key is free."""
    spec, session = broker.spec(refused.message.queue_name), broker.connection.session()
    for _ in range(_MOST_TRIES):
        if not isinstance(error, PublishRefusedError):
            break
        now = time.time() + broker.clock_ahead_ms / 1000
        try:
            if broker.connection.run(unique.explain(session, spec, refused.message, error, now)):
                return None
        except Exception as reason:  # noqa: BLE001 (its sender gets it)
            return reason
        (error,) = broker.connection.publish([refused.outgoing])
    return error


def _is_away(error: Exception | None) -> bool:
    return isinstance(error, BrokerConnectionError) and not isinstance(error, PublishRefusedError)
