"""Checking the chain of the audit log event by event: what was changed, removed, inserted or moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from app.security.audit import GENESIS, Event, Sealer
from app.services.audit_trail import HEAD_UNVERIFIED
from app.storage.postgres.tables import AuditEvent

_FIELDS = tuple(Event.__dataclass_fields__)
COLUMNS = tuple(AuditEvent.__table__.c[name] for name in (*_FIELDS, "key_id", "previous_mac", "mac"))


@dataclass(frozen=True, slots=True)
class Place:
    """An event by its number and its code (hexadecimal, or the beginning of it)."""

    id: int
    mac: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """`number:code`, as `flask audit verify` prints it; raises ValueError."""
        number, colon, mac = text.strip().partition(":")
        if not (number.isdecimal() and colon and len(mac) >= 8):  # noqa: PLR2004 shorter proves nothing
            raise ValueError("must be number:code, the code with at least 8 hexadecimal digits")
        return cls(int(number), mac.lower())


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an event, or with the head of the log where there is no event."""

    event_id: int | None
    reason: str

    def __str__(self) -> str:
        return f"event {self.event_id}: {self.reason}" if self.event_id is not None else self.reason


@dataclass(slots=True)
class ChainCheck:
    """Walks over the events in the order of their numbers, from the one after `last_id`."""

    sealer: Sealer
    anchor: Place | None = None
    last_id: int = 0
    mac: bytes = GENESIS
    events: int = 0
    by_key: Counter[str | None] = field(default_factory=Counter)
    _last_key: str | None = None
    _anchored: bool = False

    @property
    def unsealed(self) -> int:
        """Events that were written without a key."""
        return self.by_key[None]

    def row(self, row: Row[Any]) -> Iterator[Finding]:
        """The next event of the table, as its COLUMNS."""
        yield from (Finding(row.id, reason) for reason in (*self._misplaced(row), *self._altered(row)))
        if self.anchor is not None and row.id == self.anchor.id:
            self._anchored = row.mac.hex().startswith(self.anchor.mac)
        self.last_id, self.mac, self._last_key = row.id, row.mac, row.key_id or self._last_key
        self.events += 1
        self.by_key[row.key_id] += 1

    def end(self, head: Row[Any] | None) -> Iterator[Finding]:
        """After the last event."""
        if self.anchor is not None and not self._anchored:
            yield Finding(self.anchor.id, "is not in the log with the code that was given")
        if head is None:
            yield Finding(None, "the head of the log is missing")
        elif (head.last_id, head.mac) != (self.last_id, self.mac):
            yield Finding(
                None,
                f"the log ends with event {self.last_id}, but its head stands at event {head.last_id}: "
                "the newest events were removed, or others added",
            )
        elif head.key_id is None and self.sealer.key_id is not None and self.last_id:
            yield Finding(None, "the head was written without a key although one is configured")
        elif not self.sealer.head_holds(head.last_id, head.mac, head.key_id, head.seal):
            yield Finding(None, f"the head was altered, or sealed with a key that is missing ({head.key_id})")

    def _misplaced(self, row: Row[Any]) -> Iterator[str]:
        if row.id <= self.last_id:
            yield "was inserted before the beginning of the log"
        elif row.id > self.last_id + 1:
            yield f"events {self.last_id + 1} to {row.id - 1} before it are missing"
        elif row.previous_mac != self.mac:
            yield f"does not follow event {self.last_id}: one of them was put in the place of another"

    def _altered(self, row: Row[Any]) -> Iterator[str]:
        if not self.sealer.knows(row.key_id):
            yield (
                f"was sealed with key {row.key_id}, which is not configured: "
                "to check it, name the key in ENCRYPTION_RETIRED_KEYS"
            )
        elif not self.sealer.holds(Event(*row[: len(_FIELDS)]), row.previous_mac, row.key_id, row.mac):
            yield "was changed or forged"
        if row.key_id is None and self._last_key is not None:
            yield "was written without a key, after others that were sealed with one"
        if row.action == HEAD_UNVERIFIED and self._last_key is not None:
            yield "the head had been altered when it was written: events before it may be missing"
