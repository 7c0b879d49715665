"""What an arrived message is: to be run, or dealt with here because no run can or should start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.errors import DecodeError

from brokers.jetstream import unique
from brokers.jetstream.errors import CrashLoopError, DeadlineError, FutureVersionError
from brokers.jetstream.heartbeat import ACK
from brokers.jetstream.live import Live
from brokers.jetstream.message import (
    CARRIED_HEADER,
    FIRST_HEADER,
    DeadReason,
    Delivery,
    JetStreamMessage,
    decode,
    publish_headers,
)
from brokers.jetstream.oddities import note_arrival
from brokers.jetstream.publisher import Outgoing, Part
from brokers.jetstream.schedule import is_past
from brokers.jetstream.topology import ready_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker


def triage(broker: JetStreamBroker, live: Live, delivery: Delivery) -> JetStreamMessage | None:
    """The message to run, or None when it was dealt with; raises Dramatiq's connection errors."""
    message = _read(broker, delivery)
    if message is None or not delivery.redelivered:
        return message
    return message if _may_run_again(broker, live, message) else None


def _read(broker: JetStreamBroker, delivery: Delivery) -> JetStreamMessage | None:
    try:
        message = decode(delivery)
    except DecodeError as error:
        broker.bury_delivery(delivery, None, DeadReason.UNDECODABLE, error)
        return None
    except FutureVersionError as error:
        broker.bury_delivery(delivery, None, DeadReason.FUTURE_VERSION, error)
        return None
    note_arrival(message)
    if not is_past(message.options.get("deadline"), in_ms=broker.clock_ahead_ms):
        return message
    late = DeadlineError(f"its deadline {message.options['deadline']} (Unix ms) passed before it could run")
    _bury(broker, message, DeadReason.EXPIRED, late)
    return None


def _bury(broker: JetStreamBroker, message: JetStreamMessage, reason: DeadReason, error: Exception) -> None:
    """A dead letter that no run asked for; middleware hears of it as of any other."""
    message.fail()
    message.stuff_exception(error)
    broker.emit_before("nack", message)
    broker.bury_delivery(message.delivery, message, reason, error)
    broker.emit_after("nack", message)


def _may_run_again(broker: JetStreamBroker, live: Live, message: JetStreamMessage) -> bool:
    """Whether a suspect runs now; else it is dead, stored under a new sequence, or parked."""
    message.earlier_starts = broker.connection.run(live.starts.count(message))
    crashes = _crashes(broker, live, message)
    if crashes >= broker.options.max_crashes:
        _bury_crash_loop(broker, live, message, crashes)
        return False
    if message.delivery.deliveries >= broker.options.max_deliver - 1:
        _renew(broker, message)
        return False
    return not message.earlier_starts or live.gate.admit(message)


def _crashes(broker: JetStreamBroker, live: Live, message: JetStreamMessage) -> int:
    """Runs that started and never ended. Of a first delivery it is noted only that it was given back."""
    noted = message.earlier_starts
    if noted != broker.options.max_crashes - 1:  # one more or less decides nothing
        return noted
    return noted + (not broker.connection.run(live.starts.first_was_given_back(message.delivery)))


def _bury_crash_loop(broker: JetStreamBroker, live: Live, message: JetStreamMessage, crashes: int) -> None:
    last = broker.connection.run(live.starts.last(message))
    error = CrashLoopError(
        f"{crashes} runs started and never ended, the last on worker {last.get('worker', 'unknown')}"
    )
    _bury(broker, message, DeadReason.CRASH_LOOP, error)


def _renew(broker: JetStreamBroker, message: JetStreamMessage) -> None:
    """Store the message under a new sequence before the server's max_deliver strands it."""
    delivery = message.delivery
    headers = publish_headers(message)
    headers["Nats-Msg-Id"] = f"renewed:{delivery.stored_id}"  # as a patrol's: of two, one is stored
    headers[FIRST_HEADER] = delivery.first_stored_id
    headers[CARRIED_HEADER] = str(delivery.deliveries + delivery.carried)
    subject = ready_subject(broker.options, delivery.spec.name)
    broker.connection.run(unique.prolong(broker.connection.session(), delivery.spec, message))
    (error,) = broker.connection.publish([Outgoing(Part(subject, message.encode(), headers))])
    if error is not None:
        raise error
    broker.settle(delivery, ACK)
