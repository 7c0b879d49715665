"""What an operator does to queues and waiting messages, enforced by the server."""

from __future__ import annotations

import asyncio
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
from brokers.jetstream.overdue import due_at
from brokers.jetstream.presence import EVERYBODY
from brokers.jetstream.schedule import schedule_at
from brokers.jetstream.stored import all_headers, own_headers, stored_at, stored_payload
from brokers.jetstream.topology import presence_subject, ready_subject, scheduled_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_TIMER_SECONDS = 0.1  # between a timer's firing and the end of what it does; microseconds were seen
_PUT_OFF_SECONDS = 10.0
_LOOKED_BACK = 1000  # messages that may be stored between a timer's proposal and ours


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

    Raises QueueNotFound, NotScheduledError (it was sent already, cancelled before, or never there),
    PublishRefusedError (the server takes nothing now, the message is as it was), and Dramatiq's
    connection errors (then it may be cancelled).

    At its due moment on a cluster (replicas above 1) the timer may win unseen: NotScheduledError, and the
    message runs, twice if its first run ended before this could look.
    """
    broker.connection.run(_cancel(broker.connection.session(), broker.spec(queue), message_id))


async def _cancel(session: Session, spec: QueueSpec, message_id: str) -> None:
    """Put off, look, remove.

    Removing alone would race the timer: the server takes the message out of the store before it
    sends it, and says "removed" for one that is on its way (measured: one in eight at the due
    moment). Sending purges the subject, though, so a replacement that is still there a moment later
    proves that nothing was sent. A crash in between only delays the message. Its key is freed first:
    after a crash a message without its lock runs once, a lock without a message would stay.
    """
    found = await _waiting(session, spec, message_id)
    sequence = await _replace(session, spec, message_id, found, _later(found))
    await asyncio.sleep(_TIMER_SECONDS)
    replacement = await _stored(session, spec, sequence)
    if replacement is None:
        raise _not_waiting(spec, message_id)
    if _may_be_late(session, found, replacement):
        if not await _remove_if_sent(session, spec, found, sequence):
            await _replace(session, spec, message_id, replacement, datetime.now(UTC))
        raise _not_waiting(spec, message_id)
    await _free_key(session, spec, found)
    if not await session.delete(spec.stream, sequence):
        raise _not_waiting(spec, message_id)


def _may_be_late(session: Session, found: dict[str, Any], replacement: dict[str, Any]) -> bool:
    """Whether the timer may have sent the message although its replacement was taken.

    In a cluster the leader compares sequences when it proposes, not when it stores: a timer's proposal on
    its way is not seen. No timer proposes before the due time, which the same clock tells.
    """
    due = due_at(all_headers(found).get("Nats-Schedule", ""))
    replicated = session.options.replicas > 1
    return replicated and (due is None or stored_at(replacement) >= due.timestamp() * 10**9)


async def _remove_if_sent(session: Session, spec: QueueSpec, found: dict[str, Any], sequence: int) -> bool:
    """Remove the replacement if what the timer sent just before it is there.

    Where that has run to its end already nobody can know: then the message runs twice rather than never.
    """
    for earlier in range(sequence - 1, max(int(found["seq"]), sequence - _LOOKED_BACK), -1):
        message = await _stored(session, spec, earlier)
        if message is not None and all_headers(message).get("Nats-Scheduler") == found["subject"]:
            return await session.delete(spec.stream, sequence)
    return False


async def _stored(session: Session, spec: QueueSpec, sequence: int) -> dict[str, Any] | None:
    try:
        answer = await session.api(f"STREAM.MSG.GET.{spec.stream}", {"seq": sequence})
    except nats.js.errors.NotFoundError:
        return None
    return dict(answer["message"])


async def _free_key(session: Session, spec: QueueSpec, found: dict[str, Any]) -> None:
    try:
        message: Message[Any] = Message.decode(stored_payload(found))
    except DecodeError:  # a stranger's: it has no key
        return
    await unique.release(session, spec, message)


def run_now(broker: JetStreamBroker, queue: str, message_id: str) -> None:
    """Let a scheduled message run now instead of at its time; it runs once.

    At its due moment on a cluster it may run twice, as with `cancel`. Raises as `cancel`.
    """
    broker.connection.run(_run_now(broker.connection.session(), broker.spec(queue), message_id))


async def _run_now(session: Session, spec: QueueSpec, message_id: str) -> None:
    found = await _waiting(session, spec, message_id)
    sequence = await _replace(session, spec, message_id, found, datetime.now(UTC))
    replacement = await _stored(session, spec, sequence)
    late = replacement is not None and _may_be_late(session, found, replacement)
    if late and await _remove_if_sent(session, spec, found, sequence):
        raise _not_waiting(spec, message_id)


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


def _later(found: dict[str, Any]) -> datetime:
    """A time at which the replacement surely does not fire while we look."""
    soon = datetime.now(UTC) + timedelta(seconds=_PUT_OFF_SECONDS)
    try:
        due = datetime.fromisoformat(all_headers(found)["Nats-Schedule"].removeprefix("@at "))
    except (KeyError, ValueError):
        return soon
    return max(due, soon)


def _not_waiting(spec: QueueSpec, message_id: str) -> NotScheduledError:
    return NotScheduledError(f"no message {message_id} of queue {spec.name} waits for its time")
