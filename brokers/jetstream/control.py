"""What an operator does to queues and waiting messages, enforced by the server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import nats.js.errors
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from brokers.jetstream import unique
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import LOST_RACE, NotScheduledError, PublishRefusedError
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.overdue import OVERDUE, due_at
from brokers.jetstream.presence import EVERYBODY
from brokers.jetstream.schedule import schedule_at, server_time
from brokers.jetstream.stored import all_headers, own_headers, stored_payload
from brokers.jetstream.topology import presence_subject, ready_subject, scheduled_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_LAST_MOMENTS = timedelta(seconds=2)  # longer than a cluster that is well takes to store anything
_PUT_OFF = timedelta(seconds=10)  # beyond what a call may take
_NEVER = datetime(2200, 1, 1, tzinfo=UTC)


def pause(broker: JetStreamBroker, queue: str, until: datetime) -> datetime:
    """Hand out no message of a queue until a moment; what runs goes on. Returns that moment.

    The server keeps it, so it ends by itself. Raises QueueNotFound, ValueError (a moment without time
    zone, or in the past), and Dramatiq's connection errors.
    """
    if until.tzinfo is None:
        raise ValueError("until must carry a time zone")
    if until <= datetime.now(UTC):
        raise ValueError(f"until must lie in the future, not at {until.isoformat()}")
    _pause(broker, queue, {"pause_until": until.astimezone(UTC).isoformat().replace("+00:00", "Z")})
    return until


def resume(broker: JetStreamBroker, queue: str) -> None:
    """End a pause now; no error when there is none."""
    _pause(broker, queue, {})
    session = broker.connection.session()
    broker.connection.run(_wake_workers(session, presence_subject(broker.options, queue, EVERYBODY)))


async def _wake_workers(session: Session, subject: str) -> None:
    await (await session.client()).publish(subject, b"")


def _pause(broker: JetStreamBroker, queue: str, body: dict[str, Any]) -> None:
    spec = broker.spec(queue)
    name = f"CONSUMER.PAUSE.{spec.stream}.{spec.name}"
    broker.connection.run(broker.connection.session().api(name, body))


def paused_until(broker: JetStreamBroker, queue: str) -> datetime | None:
    """When a queue's pause ends; None when it is not paused."""
    spec = broker.spec(queue)
    call = broker.connection.session().api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
    info = broker.connection.run(call)
    if not info.get("paused"):
        return None
    return datetime.now(UTC) + timedelta(microseconds=int(info.get("pause_remaining", 0)) / 1000)


def cancel(broker: JetStreamBroker, queue: str, message_id: str) -> None:
    """Remove a scheduled message before its time: when this returns, it will never run.

    Raises QueueNotFound, NotScheduledError (it was sent already, cancelled before, or never there; or its
    time has come, on a cluster two seconds early: then it runs), PublishRefusedError (the server takes
    nothing now, the message is as it was), and Dramatiq's connection errors (then it may be cancelled).
    """
    broker.connection.run(_cancel(broker.connection.session(), broker.spec(queue), message_id))


async def _cancel(session: Session, spec: QueueSpec, message_id: str) -> None:
    """Look at the clock, put off, look again, remove (docs/adr/0025).

    What is due is the timer's: it may be on its way already, and the server says "removed" all the same. So
    nothing is touched that is due, or nearly so; and should its time come before it is put off, it is left
    to run. A crash in between only delays it. Its key is freed before it is removed: after a crash a
    message without its lock runs once, a lock without a message would stay.
    """
    found, due, now = await _looked_up(session, spec, message_id)
    if due <= now + _timers_own(session):
        raise _too_late(spec, message_id)
    far = now + timedelta(seconds=session.options.longest_call_seconds) + _PUT_OFF
    sequence = await _replace(session, spec, message_id, found, max(due, far))
    now = await _server_now(session, spec)
    if due <= now:
        await _replace(session, spec, message_id, {**found, "seq": sequence}, now)
        raise _too_late(spec, message_id)
    await _free_key(session, spec, found)
    if not await session.delete(spec.stream, sequence):
        raise _not_waiting(spec, message_id)


async def _looked_up(
    session: Session, spec: QueueSpec, message_id: str
) -> tuple[dict[str, Any], datetime, datetime]:
    """A waiting message, when it is due (a stranger's may never be), and what its timer's clock says now."""
    found = await _waiting(session, spec, message_id)
    due = due_at(all_headers(found).get("Nats-Schedule", ""))
    return found, due or _NEVER, await _server_now(session, spec)


async def _server_now(session: Session, spec: QueueSpec) -> datetime:
    return server_time((await session.api(f"STREAM.INFO.{spec.stream}"))["ts"])


def _timers_own(session: Session) -> timedelta:
    """How long before its time a message is its timer's already.

    The leader of a cluster compares sequences before what it decides is stored. So it may take a replacement
    for a message that is being sent, and that runs twice.
    """
    return _LAST_MOMENTS if session.options.replicas > 1 else timedelta(0)


async def _free_key(session: Session, spec: QueueSpec, found: dict[str, Any]) -> None:
    try:
        message: Message[Any] = Message.decode(stored_payload(found))
    except DecodeError:  # a stranger's: it has no key
        return
    await unique.release(session, spec, message)


def run_now(broker: JetStreamBroker, queue: str, message_id: str) -> None:
    """Let a scheduled message run now instead of at its time; it runs once.

    One that is due, on a cluster also in less than two seconds, is left to its timer. Raises as `cancel`.
    """
    broker.connection.run(_run_now(broker.connection.session(), broker.spec(queue), message_id))


async def _run_now(session: Session, spec: QueueSpec, message_id: str) -> None:
    found, due, now = await _looked_up(session, spec, message_id)
    if not now - OVERDUE < due <= now + _timers_own(session):
        await _replace(session, spec, message_id, found, now)


async def _waiting(session: Session, spec: QueueSpec, message_id: str) -> dict[str, Any]:
    subject = scheduled_subject(session.options, spec.name, message_id)
    try:
        answer = await session.api(f"STREAM.MSG.GET.{spec.stream}", {"last_by_subj": subject})
    except nats.js.errors.NotFoundError:
        raise _not_waiting(spec, message_id) from None
    return dict(answer["message"])


async def _replace(
    session: Session, spec: QueueSpec, message_id: str, found: dict[str, Any], due: datetime
) -> int:
    """Store the schedule anew with another time; the server refuses if the known one is gone."""
    ours = f"{message_id}:moved:{uuid.uuid4().hex}"
    headers = own_headers(found) | schedule_at(due, ready_subject(session.options, spec.name))
    headers |= {"Nats-Msg-Id": ours, "Nats-Expected-Last-Subject-Sequence": str(found["seq"])}
    try:
        return await session.publish(found["subject"], stored_payload(found), headers)
    except PublishRefusedError as error:
        if error.code not in LOST_RACE:
            raise
    # Sent again because its answer was lost, it finds itself there: a single server looks at the
    # expected sequence before it looks at the id.
    there = await _waiting(session, spec, message_id)
    if all_headers(there).get("Nats-Msg-Id") != ours:
        raise _not_waiting(spec, message_id)
    return int(there["seq"])


def _not_waiting(spec: QueueSpec, message_id: str) -> NotScheduledError:
    return NotScheduledError(f"no message {message_id} of queue {spec.name} waits for its time")


def _too_late(spec: QueueSpec, message_id: str) -> NotScheduledError:
    return NotScheduledError(f"message {message_id} of queue {spec.name} is due: it runs")
