"""One stream of the stub twin: stored messages, and the server's rules about what may be stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import nats.js.errors
from nats.js import api

from brokers.jetstream.browse import Stored
from brokers.jetstream.errors import BEING_OVERTAKEN, HEADERS_TOO_LARGE, WRONG_LAST_SEQUENCE
from brokers.jetstream.memory_events import matches
from brokers.jetstream.publisher import Part

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_MOST_HEADER_BYTES = 65_535


class Stream:
    """Messages by sequence. Times are Unix seconds of the twin's clock; one thread at a time."""

    def __init__(self, config: api.StreamConfig) -> None:
        self.config = config
        self.last_sequence = 0
        self._messages: dict[int, Stored] = {}
        self._by_subject: dict[str, dict[int, None]] = {}
        self._ids: dict[str, tuple[float, int]] = {}

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.config.name)

    @property
    def first_sequence(self) -> int:
        """The oldest message's sequence, or the next one's when there is none."""
        return next(iter(self._messages), self.last_sequence + 1)

    def __len__(self) -> int:
        return len(self._messages)

    def takes(self, subject: str) -> bool:
        """Whether messages on a subject are stored here."""
        return any(matches(pattern, subject) for pattern in self.config.subjects or [])

    def known(self, message_id: str | None, now: float) -> int | None:
        """The sequence under which an id was stored within the duplicate window."""
        window = self.config.duplicate_window or 0
        while self._ids and now - next(iter(self._ids.values()))[0] >= window:
            del self._ids[next(iter(self._ids))]  # the oldest: the dict keeps the order of storing
        found = self._ids.get(message_id or "")
        return found[1] if found is not None else None

    def check(self, subject: str, headers: Mapping[str, str]) -> None:
        """Raise the server's error when headers are too long, or the subject's last message is unexpected."""
        if sum(len(name) + len(value.encode()) + 4 for name, value in headers.items()) > _MOST_HEADER_BYTES:
            description = "header size exceeds maximum allowed of 64k"
            raise nats.js.errors.BadRequestError(
                code=400, err_code=HEADERS_TOO_LARGE, description=description
            )
        expected = headers.get(_EXPECTED)
        if expected is None:
            return
        last = self.last_on(headers.get(f"{_EXPECTED}-Subject", subject))
        found = last.sequence if last is not None else 0
        if int(expected) != found:
            description = f"wrong last sequence: {found}"
            raise nats.js.errors.BadRequestError(
                code=400, err_code=WRONG_LAST_SEQUENCE, description=description
            )

    def store(self, subject: str, payload: bytes, headers: dict[str, str], now: float) -> Stored:
        """Keep a message under the next sequence."""
        self.last_sequence += 1
        stored = Stored(self.last_sequence, subject, headers, datetime.fromtimestamp(now, UTC), payload)
        self._messages[stored.sequence] = stored
        self._by_subject.setdefault(subject, {})[stored.sequence] = None
        if "Nats-Msg-Id" in headers:
            self._ids[headers["Nats-Msg-Id"]] = (now, stored.sequence)
        return stored

    def replaces(self, subject: str, headers: Mapping[str, str]) -> list[int]:
        """The messages that make room for a new one on their subject."""
        alone = self.config.max_msgs_per_subject == 1 or headers.get("Nats-Rollup") == "sub"
        return list(self._by_subject.get(subject, ())) if alone or "Nats-Schedule" in headers else []

    def get(self, sequence: int) -> Stored | None:
        """One message."""
        return self._messages.get(sequence)

    def remove(self, sequence: int) -> Stored | None:
        """Forget a message; None when there was none."""
        stored = self._messages.pop(sequence, None)
        if stored is not None:
            on_subject = self._by_subject[stored.subject]
            del on_subject[sequence]
            if not on_subject:
                del self._by_subject[stored.subject]
        return stored

    def counts(self, pattern: str) -> dict[str, int]:
        """How many messages lie on each subject that a pattern covers."""
        return {name: len(found) for name, found in self._by_subject.items() if matches(pattern, name)}

    def last_on(self, pattern: str) -> Stored | None:
        """The newest message on the subjects that a pattern covers."""
        if pattern in self._by_subject:
            return self._messages[next(reversed(self._by_subject[pattern]))]
        return max(self.on(pattern), key=lambda stored: stored.sequence, default=None)

    def on(self, pattern: str, start: int = 0) -> Iterator[Stored]:
        """The messages on the subjects that a pattern covers, oldest first, from a sequence on."""
        if not self.counts(pattern):
            return iter(())
        everything = list(self._messages.values())
        return (s for s in everything if s.sequence >= start and matches(pattern, s.subject))


def check_batch(parts: Sequence[Part]) -> None:
    """Raise the server's error for a part that expects what an earlier part of its batch changes."""
    changed: set[str] = set()
    for part in parts:
        if _EXPECTED in part.headers and part.headers.get(f"{_EXPECTED}-Subject", part.subject) in changed:
            raise nats.js.errors.BadRequestError(
                code=400, err_code=BEING_OVERTAKEN, description="wrong last sequence"
            )
        changed.add(part.subject)
