"""What makes the audit log hard to forge: each event carries a code that only the holder of the key can make.

The code of an event covers everything in its row and the code of the event before it, so a change, a removal,
an insertion or another order breaks the chain at that place. The head, kept apart, says where the chain ends.
Codes are HMAC-SHA-256 with a key derived from the master key; without one they are plain SHA-256, which shows
accidents but no forgery.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from app.security.keyring import Keyring

GENESIS = bytes(32)  # what the first event follows
_USE = "semantic-explorer audit v1"
_EVENT, _HEAD = "event", "head"
_REMEMBERED = 10_000  # spellings: names, verbs and kinds come again and again


@dataclass(frozen=True, slots=True)
class Origin:
    """On whose behalf a process acts: a person's request, an operator's command, or the system itself.

    `owner_id` is whose things are dealt with, where no row says it.
    """

    actor: str = "system"
    owner_id: str | None = None
    address: str | None = None
    request_id: str | None = None


_ORIGIN: ContextVar[Origin] = ContextVar("audit_origin", default=Origin())  # noqa: B039 - it is frozen


def set_origin(origin: Origin) -> Token[Origin]:
    """All that this thread or task does from here on is on behalf of `origin`, until `reset_origin`."""
    return _ORIGIN.set(origin)


def reset_origin(token: Token[Origin]) -> None:
    """As it was before the `set_origin` that returned `token`."""
    _ORIGIN.reset(token)


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Everything in the block is on behalf of `origin`."""
    token = set_origin(origin)
    try:
        yield
    finally:
        reset_origin(token)


def origin() -> Origin:
    """On whose behalf this thread acts; the system's where nobody said."""
    return _ORIGIN.get()


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is sealed. `details` is JSON without secrets; `owner_id` says whose things it is on."""

    id: int
    at: datetime
    owner_id: str | None
    actor: str
    action: str
    object_kind: str | None
    object_id: str | None
    outcome: str
    request_id: str | None
    address: str | None
    details: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> bytes:
        """One spelling of everything in it."""
        at = self.at.astimezone(UTC).isoformat()
        texts = (
            self.owner_id, self.actor, self.action, self.object_kind, self.object_id, self.outcome,
            self.request_id, self.address,
        )  # fmt: skip
        return spelled(self.id, at, texts, _ENCODER.encode(self.details))


def spelled(number: int, at: str, texts: Iterable[str | None], details: str) -> bytes:
    """What an event's code covers, as JSON; `texts` in the order of an Event's fields, `details` as JSON."""
    return f'["{_EVENT}",{number},"{at}",{",".join(map(_quoted, texts))},{details}]'.encode()


@lru_cache(maxsize=_REMEMBERED)
def spelled_again(details: str) -> str:
    """JSON from the database in the one spelling that codes cover."""
    return _ENCODER.encode(json.loads(details))


class Sealer:
    """Makes and checks the codes of events and of the head, with the keys of a ring."""

    def __init__(self, keyring: Keyring) -> None:
        self.key_id = keyring.active.id if keyring.active else None
        self._keys = {key.id: key.derive(_USE) for key in keyring.keys.values()}

    def seal(self, event: Event, previous: bytes) -> bytes:
        """The code (32 bytes), with the active key, of an event that follows the one with code `previous`."""
        return self._code(self.key_id, previous, event.content())

    def seal_head(self, last_id: int, mac: bytes) -> bytes:
        """The code of a chain that ends with this event; with the active key."""
        return self._code(self.key_id, mac, _dump([_HEAD, last_id]))

    def knows(self, key_id: str | None) -> bool:
        """Whether codes made with this key can be checked; None stands for no key."""
        return key_id is None or key_id in self._keys

    def holds(self, content: bytes, previous: bytes, key_id: str | None, mac: bytes) -> bool:
        """Whether `mac` is the code of an event with this content; the key must be known."""
        return hmac.compare_digest(self._code(key_id, previous, content), mac)

    def head_holds(self, last_id: int, mac: bytes, key_id: str | None, seal: bytes) -> bool:
        """Whether `seal` is the head's code; False also where its key is not known."""
        return self.knows(key_id) and hmac.compare_digest(
            self._code(key_id, mac, _dump([_HEAD, last_id])), seal
        )

    def _code(self, key_id: str | None, previous: bytes, content: bytes) -> bytes:
        if key_id is None:
            return hashlib.sha256(previous + content).digest()
        return hmac.digest(self._keys[key_id], previous + content, "sha256")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _dump(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


@lru_cache(maxsize=_REMEMBERED)
def _quoted(value: str | None) -> str:
    return _ENCODER.encode(value)
