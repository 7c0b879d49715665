"""What a dead letter holds: payload, trace and attempts, read from its stream when somebody opens it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dramatiq.errors import BrokerConnectionError

from app.errors import UnavailableError
from app.jobs.letter_facts import our_frames
from app.security.masking import mask, mask_text
from brokers import DeadLetter, DeadLetterNotFoundError, JetStreamBroker, TopologyError, dead_letter

_HEX_BYTES = 4096
_OTHER_STREAM = "its stream was made anew since, and the letter went with the old one"


@dataclass(frozen=True, slots=True)
class LetterContent:
    """`payload` is the message as JSON; where it is none, `payload_hex` has its first bytes once revealed.

    `content_type` is application/octet-stream then: nobody knows where in such bytes a secret stands.
    `attempts` are dicts with attempt, worker, version, waited_seconds, started_at, ended_at, error and
    next_delay_seconds, fewer from older releases. `masked`: secrets are hidden.
    """

    payload: Any
    payload_hex: str | None
    content_type: str
    schema_version: int | None
    size_bytes: int
    truncated_bytes: int
    trace: str
    our_frames: tuple[str, ...]
    attempts: tuple[Mapping[str, Any], ...]
    origin_stream: str
    origin_sequence: int
    masked: bool


class Place(Protocol):
    """Where a letter lies: an index row, or a view of one."""

    @property
    def sequence(self) -> int: ...  # noqa: D102
    @property
    def died_at(self) -> datetime: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Contents:
    """Reads letters from their stream."""

    broker: JetStreamBroker

    def read(self, row: Place, *, reveal: bool = False) -> tuple[LetterContent | None, str | None]:
        """What the letter of an index row holds, or why it is not there any more. Raises UnavailableError."""
        try:
            letter = dead_letter.get(self.broker, row.sequence)
        except DeadLetterNotFoundError as error:
            return None, str(error)
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        if letter.dead_at != row.died_at:
            return None, _OTHER_STREAM
        return _content(letter, reveal=reveal), None


def _content(letter: DeadLetter, *, reveal: bool) -> LetterContent:
    raw = letter.payload or b""
    payload, readable = _parsed(raw)
    return LetterContent(
        payload=payload if reveal else mask(payload),
        payload_hex=raw[:_HEX_BYTES].hex(" ") if reveal and not readable else None,
        content_type="application/json" if readable else "application/octet-stream",
        schema_version=_version(payload) if readable else None,
        size_bytes=letter.size_bytes,
        truncated_bytes=letter.truncated_bytes,
        trace=letter.trace if reveal else mask_text(letter.trace),
        our_frames=our_frames(letter.trace),
        attempts=tuple(letter.attempts if reveal else mask(letter.attempts)),
        origin_stream=letter.origin_stream,
        origin_sequence=letter.origin_sequence,
        masked=not reveal,
    )


def _parsed(raw: bytes) -> tuple[Any, bool]:
    try:
        return json.loads(raw), True
    except (ValueError, RecursionError):
        return None, False


def _version(payload: Any) -> int | None:
    """The version of the message's arguments: 1 where it says none."""
    arguments = payload.get("kwargs") if isinstance(payload, dict) else None
    version = arguments.get("version", 1) if isinstance(arguments, dict) else None
    return version if isinstance(version, int) else None
