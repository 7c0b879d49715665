"""Checking the chain of the audit log event by event: what was changed, removed, inserted or moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Row, Text, cast, func

from app.security.audit import GENESIS, Sealer, spelled, spelled_again
from app.services.audit_trail import HEAD_UNVERIFIED
from app.storage.postgres.tables import AuditEvent

# As texts, which the driver hands over as they are: to make objects of them would take most of the time.
# The era is asked for so that a moment of another one is another text.
_OF = AuditEvent.__table__.c
COLUMNS = (
    _OF.id,
    func.to_char(func.timezone("UTC", _OF.at), 'YYYY-MM-DD"T"HH24:MI:SS.US AD').label("at"),
    _OF.owner_id, _OF.actor, _OF.action, _OF.object_kind, _OF.object_id, _OF.outcome, _OF.request_id,
    _OF.address,
    cast(_OF.details, Text).label("details"),
    _OF.key_id,
    func.encode(_OF.previous_mac, "hex").label("previous_mac"),
    func.encode(_OF.mac, "hex").label("mac"),
)  # fmt: skip


class Link(NamedTuple):
    """An event as the check needs it: what its code covers, and how it hangs on the one before it."""

    id: int
    action: str
    content: bytes
    key_id: str | None
    previous_mac: bytes
    mac: bytes

    @classmethod
    def of(cls, row: Row[Any]) -> Link:
        """Of a row of COLUMNS."""
        number, at, *texts, details, key_id, previous_mac, mac = row
        content = spelled(number, _moment(at), texts, spelled_again(details))
        return cls(number, texts[2], content, key_id, bytes.fromhex(previous_mac), bytes.fromhex(mac))


def _moment(at: str) -> str:
    """As Python writes it: without a fraction where there is none."""
    return at.removesuffix(" AD").removesuffix(".000000") + "+00:00"


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

    def row(self, row: Row[Any]) -> list[Finding]:
        """What is wrong with the next event of the table, given as its COLUMNS."""
        link = Link.of(row)
        found = [Finding(link.id, reason) for reason in (*self._misplaced(link), *self._altered(link))]
        if self.anchor is not None and link.id == self.anchor.id:
            self._anchored = link.mac.hex().startswith(self.anchor.mac)
        self.last_id, self.mac, self._last_key = link.id, link.mac, link.key_id or self._last_key
        self.events += 1
        self.by_key[link.key_id] += 1
        return found

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

    def _misplaced(self, link: Link) -> tuple[str, ...]:
        if link.id <= self.last_id:
            return ("was inserted before the beginning of the log",)
        if link.id > self.last_id + 1:
            return (f"events {self.last_id + 1} to {link.id - 1} before it are missing",)
        if link.previous_mac != self.mac:
            return (f"does not follow event {self.last_id}: one of them was put in the place of another",)
        return ()

    def _altered(self, link: Link) -> list[str]:
        found = []
        if not self.sealer.knows(link.key_id):
            found.append(
                f"was sealed with key {link.key_id}, which is not configured: "
                "to check it, name the key in ENCRYPTION_RETIRED_KEYS"
            )
        elif not self.sealer.holds(link.content, link.previous_mac, link.key_id, link.mac):
            found.append("was changed or forged")
        if link.key_id is None and self._last_key is not None:
            found.append("was written without a key, after others that were sealed with one")
        if link.action == HEAD_UNVERIFIED and self._last_key is not None:
            found.append("the head had been altered when it was written: events before it may be missing")
        return found
