"""What is published for a message: where, with which headers, and together with which lock."""

from __future__ import annotations

import json
import math
from typing import Any

from dramatiq.message import Message

from brokers.jetstream.errors import MessageTooLargeError
from brokers.jetstream.message import attempt_of, publish_headers
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.publisher import Outgoing, Part
from brokers.jetstream.schedule import schedule_headers
from brokers.jetstream.topology import ready_subject, scheduled_subject, unique_subject

# A run that began in the last moment of its message's age goes on without it. A day is more than jobs take.
_LAST_RUN_SECONDS = 86_400.0


def outgoing(
    options: BrokerOptions, spec: QueueSpec, message: Message[Any], delay_ms: float | None
) -> Outgoing:
    """The publish of a message, now or scheduled; raises MessageTooLargeError, ValueError."""
    deadline = message.options.get("deadline")
    if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, int | float)):
        raise ValueError(f"deadline must be Unix milliseconds, not {deadline!r}")
    body, headers = message.encode(), publish_headers(message)
    _check_size(options, message, body)
    subject = ready_subject(options, spec.name)
    if delay_ms is not None and delay_ms > 0:
        headers |= schedule_headers(delay_ms, subject)
        subject = scheduled_subject(options, spec.name, message.message_id)
    return Outgoing(Part(subject, body, headers), _first_lock(options, spec, message, delay_ms or 0))


def _check_size(options: BrokerOptions, message: Message[Any], body: bytes) -> None:
    retried = "attempts" in message.options
    if len(body) > options.max_message_bytes and not retried:
        raise MessageTooLargeError(
            f"the message for {message.actor_name} has {len(body)} bytes, "
            f"more than max_message_bytes ({options.max_message_bytes}): pass ids, not contents"
        )


def unique_key(message: Any) -> str | None:
    """The key that at most one message of its queue may have until it is done; None for most."""
    key = message.options.get("unique_key")
    if key is not None and not (isinstance(key, str) and key):
        raise ValueError(f"unique_key must be a text that is not empty, not {key!r}")
    return key


def _first_lock(
    options: BrokerOptions, spec: QueueSpec, message: Message[Any], delay_ms: float
) -> Part | None:
    if attempt_of(message) > 0:  # a retry holds its lock already; see unique.prolong
        return None
    return lock_of(options, spec, message, delay_ms)


def lock_of(
    options: BrokerOptions, spec: QueueSpec, message: Any, delay_ms: float, *, replacing: int = 0
) -> Part | None:
    """The lock of a message that is stored now, in place of that with a sequence; None without a key."""
    key = unique_key(message)
    if key is None:
        return None
    # Nothing with a TTL outlives the stream's own age, and a message that waits for its time may.
    headers = {"Nats-Expected-Last-Subject-Sequence": str(replacing), "Nats-TTL": "never"}
    headers |= {"Nats-Rollup": "sub"} if replacing else {}
    seconds = math.ceil(delay_ms / 1000 + options.queue_max_age_seconds + _LAST_RUN_SECONDS)
    body = json.dumps({"message_id": message.message_id, "seconds": seconds}).encode()
    return Part(unique_subject(options, spec.name, key), body, headers)
