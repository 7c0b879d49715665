"""What was delivered (`Delivery`), and the Dramatiq message made of it (`JetStreamMessage`)."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dramatiq.broker import MessageProxy
from dramatiq.errors import DecodeError
from dramatiq.message import Message
from nats.aio.msg import Msg

from brokers.jetstream.errors import FutureVersionError
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.schedule import is_time

FORMAT_HEADER = "Dramatiq-Format"
FORMAT = 1  # grows when older workers could not read what is written
FIRING_HEADER = "Dramatiq-Firing"  # the message id of what a recurring schedule sent
CARRIED_HEADER = "Dramatiq-Deliveries"  # deliveries under earlier sequences of the same message
FIRST_HEADER = "Dramatiq-First"  # as what the message was stored first, on one that was renewed since
_STORED_ID = re.compile(r"[^:\s]{1,255}:\d{1,20}:\d{1,20}", re.ASCII)
_TRACE_HEADERS = ("traceparent", "tracestate")
_SHORT_REPLY_TOKENS = 9
_LAST_OF_SCHEDULE = "purge"  # what a one-time schedule says comes next
_MOST_ATTEMPTS_KEPT = 20
_ERROR_CHARACTERS = 300
_MOST_DIGITS = 18  # what a signed 64-bit number surely holds
_VERSION_CHARACTERS = 40


class DeadReason(StrEnum):
    """Why a message was given up: a closed set."""

    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    PERMANENT_ERROR = "permanent-error"
    UNDECODABLE = "undecodable"
    UNKNOWN_ACTOR = "unknown-actor"
    CRASH_LOOP = "crash-loop"
    EXPIRED = "expired"
    FUTURE_VERSION = "future-version"
    FOLLOW_UP_NOT_STORABLE = "follow-up-not-storable"
    REJECTED = "rejected"
    RESULT_NOT_STORABLE = "result-not-storable"


def worker_name() -> str:
    """Name of the process in histories: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(eq=False)
class Delivery:
    """One message of the stream in our hands, from its arrival until it is settled.

    `deliveries` counts handovers by the server under this sequence, `carried` those under earlier
    sequences of the same message. `stored_at` is when the server stored it, in Unix nanoseconds; all
    other times are of the monotonic clock, in seconds.
    """

    spec: QueueSpec
    reply: str
    sequence: int
    deliveries: int
    data: bytes
    headers: dict[str, str]
    stored_at: int = 0
    beat_due: float = 0.0
    beat_until: float = float("inf")
    ours_until: float = float("inf")  # when the server gives it to others unless we renew it
    arrived: float = 0.0
    began: float = 0.0  # when a thread started it; 0: not yet
    running: bool = False
    settled: bool = False
    start_sequence: int | None = None  # where its run was noted, if it was
    slot: int | None = None  # where the process's pulse sees it (lifeline.py)
    key: tuple[str, int, int] = field(init=False)  # of the stored message, also when its stream is made anew
    carried: int = field(init=False)  # deliveries before this sequence
    _unclaimed: list[None] = field(default_factory=lambda: [None])

    def __post_init__(self) -> None:
        """What is asked for many times per message."""
        self.key = (self.spec.stream, self.sequence, self.stored_at)
        self.carried = number(self.headers.get(CARRIED_HEADER))

    @classmethod
    def of(cls, spec: QueueSpec, msg: Msg) -> Delivery:
        """Read a message that a pull consumer handed over.

        Its reply subject says where it comes from: $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.
        <number>.<time>.<pending>, with domain and account before the stream when there are more than
        nine tokens.
        """
        now = time.monotonic()
        tokens = msg.reply.split(".")
        first = 4 if len(tokens) == _SHORT_REPLY_TOKENS else 6
        return cls(
            spec=spec,
            reply=msg.reply,
            sequence=int(tokens[first + 1]),
            deliveries=int(tokens[first]),
            data=msg.data,
            headers=dict(msg.headers or {}),
            stored_at=int(tokens[first + 3]),
            beat_due=now + spec.heartbeat_seconds,
            ours_until=now + spec.ack_wait_seconds,
            arrived=now,
        )

    def claim(self) -> bool:
        """True for exactly one caller of any thread: who may start the message, or give it back unstarted."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    @property
    def stored_id(self) -> str:
        """Its key as part of a Nats-Msg-Id."""
        return f"{self.spec.stream}:{self.sequence}:{self.stored_at}"

    @property
    def first_stored_id(self) -> str:
        """The key under which the message was stored before it was renewed, however often."""
        return first_stored_id(self.headers, self.stored_id)

    def __str__(self) -> str:
        return f"{self.sequence} of {self.spec.stream}"

    @property
    def redelivered(self) -> bool:
        """True when some worker may have had this message before."""
        return self.deliveries + self.carried > 1

    @property
    def lost(self) -> bool:
        """True when others may have it by now: before it began, nothing was heard of us for ack_wait."""
        return not self.began and time.monotonic() > self.ours_until


class JetStreamMessage(MessageProxy):
    """A Dramatiq message together with its delivery and what became of its run."""

    def __init__(self, message: Message[Any], delivery: Delivery) -> None:
        super().__init__(message)
        self.delivery = delivery
        self.dead_reason: DeadReason | None = None
        self.hand_back_seconds: float | None = None  # set: do not end it, give it back after this pause
        self.continued = False  # a retry of it is stored: it ends, what it is about does not
        self.started_at: float | None = None  # Unix time
        self.earlier_starts = 0  # runs that were noted and never ended

    @property
    def error(self) -> BaseException | None:
        """What its run raised."""
        return self._exception

    @property
    def attempt(self) -> int:
        """0 for the first attempt."""
        return attempt_of(self._message)

    def hand_back(self, after_seconds: float) -> None:
        """Let the message return to its queue instead of being acknowledged or buried."""
        self.hand_back_seconds = after_seconds


def first_stored_id(headers: dict[str, str], stored_id: str) -> str:
    """What a renewed message's headers say that it was stored as first, if they say anything of the kind."""
    told = headers.get(FIRST_HEADER, "")
    return told if _STORED_ID.fullmatch(told) else stored_id


def is_count(text: str) -> bool:
    """Whether a header's text is a whole number of a length that one of ours can have."""
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()


def number(text: str | None) -> int:
    """A header's number; 0 when it is missing or anything else."""
    return int(text) if text and is_count(text) else 0


def decode(delivery: Delivery) -> JetStreamMessage:
    """Read the payload; raises Dramatiq's DecodeError for anything that is not a message of ours.

    An eta is dropped: the server has waited already, and Dramatiq would wait again, in memory. What a
    recurring schedule sends gets an id of its own each time. Raises FutureVersionError, too.
    """
    version = number(delivery.headers.get(FORMAT_HEADER))
    if version > FORMAT:
        raise FutureVersionError(f"written in format {version}, this worker reads up to {FORMAT}: upgrade it")
    message: Message[Any] = Message.decode(delivery.data)
    fields = (message.queue_name, message.actor_name, message.message_id)
    objects = (message.options, message.kwargs)
    if not all(isinstance(text, str) and text for text in fields):
        raise _not_ours("Queue, actor and id must be text.", delivery)
    if not all(isinstance(value, dict) for value in objects):
        raise _not_ours("Options and keyword arguments must be objects.", delivery)
    if not _can_be_caught(message.options.get("throws")):
        raise _not_ours("The option throws must be exception classes.", delivery)
    if not is_time(message.message_timestamp):
        raise _not_ours("The time at which it was made must be Unix milliseconds.", delivery)
    key = message.options.get("unique_key")
    if key is not None and not (isinstance(key, str) and key):
        raise _not_ours("The option unique_key must be text.", delivery)
    if message.queue_name != delivery.spec.name:
        raise _not_ours(f"A message of queue {message.queue_name!r} lay in another.", delivery)
    message.options.pop("eta", None)
    fired = firing_id(delivery.headers, delivery.stored_id)
    return JetStreamMessage(message.copy(message_id=fired) if fired else message, delivery)


def firing_id(headers: dict[str, str], stored_id: str) -> str | None:
    """The message id of what a recurring schedule sent; None for any other message."""
    if FIRING_HEADER in headers:  # stored again since
        return headers[FIRING_HEADER]
    if headers.get("Nats-Schedule-Next", _LAST_OF_SCHEDULE) == _LAST_OF_SCHEDULE:
        return None
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{headers.get('Nats-Scheduler')}:{stored_id}"))


def _can_be_caught(throws: Any) -> bool:
    """False for what would end Dramatiq's worker thread in `isinstance(error, throws)`."""
    kinds = throws if isinstance(throws, tuple) else (throws,)
    return not throws or all(isinstance(kind, type) for kind in kinds)


def _not_ours(problem: str, delivery: Delivery) -> DecodeError:
    return DecodeError(problem, delivery.data, None)  # type: ignore[no-untyped-call]  # Dramatiq's


def attempt_of(message: Any) -> int:
    """Dramatiq's count of retries, 0 when it is missing or nonsense."""
    retries = message.options.get("retries", 0)
    return retries if isinstance(retries, int) and retries >= 0 else 0


def publish_headers(message: Any) -> dict[str, str]:
    """Headers of an enqueued message; the id makes repeating the same attempt harmless."""
    headers = {
        "Nats-Msg-Id": f"{message.message_id}:{attempt_of(message)}",
        "Dramatiq-Actor": message.actor_name,
        "Dramatiq-Message-Id": message.message_id,
        FORMAT_HEADER: str(FORMAT),
    }
    for name in _TRACE_HEADERS:
        if isinstance(message.options.get(name), str):
            headers[name] = message.options[name]
    return headers


def note_attempt(
    message: JetStreamMessage,
    error: BaseException | None,
    *,
    version: str = "",
    next_delay_seconds: float | None = None,
) -> None:
    """Append the run that just ended to the history that travels in the message's options.

    `version` is this process's release; the delay is that of the next attempt, None when there is none.
    """
    history = message.options.get("attempts")
    entries = history if isinstance(history, list) else []
    started = message.started_at or time.time()
    entries.append(
        {
            "attempt": message.attempt + 1,
            "worker": worker_name(),
            "version": version[:_VERSION_CHARACTERS] or None,
            "waited_seconds": _waited(message.delivery, started),
            "started_at": round(started, 3),
            "ended_at": round(time.time(), 3),
            "error": f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS] if error else None,
            "next_delay_seconds": None if next_delay_seconds is None else round(next_delay_seconds, 3),
        }
    )
    message.options["attempts"] = entries[-_MOST_ATTEMPTS_KEPT:]


def _waited(delivery: Delivery, started: float) -> float | None:
    """Seconds from when the message was ready until its run began, by two clocks: never below 0."""
    if not delivery.stored_at:
        return None
    return round(max(0.0, started - delivery.stored_at / 1e9), 3)
