"""What became of each dead letter: nothing leaves the dead-letter stream without a record of it.

A letter's record is opened, empty, when the letter is stored, on a subject of its own that tells
queue, id, reason, actor and message id. Then one of two things happens:

- a person replays or discards the letter: that replaces the record (a rollup that expects the
  sequence it replaces, so of two people who act at once one finds the other's), and only then is
  the letter removed;
- nobody does: letter and record reach their age together, and the server leaves its delete marker
  on the record's subject.

They lie in a stream of their own. In the dead-letter stream they could not outlive its 30 days (the
server cuts a longer time to live at the stream's maximum age), and markers on the letters' subjects
would be counted as dead letters. A marker cannot be kept longer than letters are: the server raises
every time to live to at least its markers', the open record's, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from brokers.jetstream import browse
from brokers.jetstream.browse import Stored
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import LOST_RACE, PublishRefusedError
from brokers.jetstream.options import BrokerOptions
from brokers.jetstream.topology import token

if TYPE_CHECKING:
    from brokers.jetstream.burial import DeadLetter

log = logging.getLogger(__name__)

_WHY_CHARACTERS, _BY_CHARACTERS = 1000, 200
_PAUSE_SECONDS = 0.02  # after a lost race, which a cluster may be about to settle
_NOBODY = "-"  # a subject token for "no actor", "no message id"
_MARKER = "Nats-Marker-Reason"


class Outcome(StrEnum):
    """How a dead letter ended."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    EXPIRED = "expired"


@dataclass(frozen=True)
class EndedLetter:
    """What is left of a dead letter. Of an expired one only what its subject tells is known.

    `id` was the letter's id; `record` is the record's own, for paging.
    """

    id: int
    queue: str
    outcome: Outcome
    ended_at: datetime
    reason: str
    actor: str | None
    message_id: str | None
    record: int
    by: str = ""
    why: str = ""
    successor_id: str | None = None
    error_class: str | None = None
    dead_at: datetime | None = None

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        successor = f" as message {self.successor_id}" if self.successor_id else ""
        return f"{self.outcome}{successor}{by} at {self.ended_at.isoformat(timespec='seconds')}"


def record_subject(options: BrokerOptions, letter: DeadLetter) -> str:
    """Where the letter's record lies."""
    words = (letter.queue, str(letter.id), letter.reason, letter.actor, letter.message_id)
    return ".".join([options.subject_root, "record", *(token(word or _NOBODY) for word in words)])


def _lifetime(seconds: float) -> str:
    return f"{max(1, math.ceil(seconds))}s"


async def begin(session: Session, letter: DeadLetter) -> None:
    """Open the record of a letter that was just stored; harmless when there is one already."""
    headers = {
        "Nats-TTL": _lifetime(session.options.dead_letter_max_age_seconds),
        "Nats-Expected-Last-Subject-Sequence": "0",
    }
    try:
        await session.publish(record_subject(session.options, letter), b"", headers)
    except PublishRefusedError as error:
        if error.code not in LOST_RACE:
            raise
        log.debug("The record of dead letter %s was opened before.", letter.id)


async def end(
    session: Session,
    letter: DeadLetter,
    outcome: Outcome,
    *,
    by: str,
    why: str,
    successor_id: str | None = None,
) -> EndedLetter:
    """Record how a letter ended, before it is removed; safe to repeat. Returns what the record says.

    The first to end it is the one recorded, except that a replay always is: its message is on its way.
    Raises PublishRefusedError when others were faster for publish_timeout_seconds.
    """
    deadline = time.monotonic() + session.options.publish_timeout_seconds
    subject = record_subject(session.options, letter)
    headers = _headers(session.options, letter, outcome, by, why, successor_id)
    while True:
        last = await browse.one(session, session.options.dead_record_stream, last_by_subj=subject)
        known = read_ended(last) if last is not None else None
        if known is not None and is_of(known, letter) and known.outcome in {Outcome.REPLAYED, outcome}:
            return known
        headers["Nats-Expected-Last-Subject-Sequence"] = str(last.sequence if last is not None else 0)
        try:
            await session.publish(subject, b"", headers)
        except PublishRefusedError as error:
            if error.code not in LOST_RACE or time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)


async def end_seen(
    session: Session, letter: DeadLetter, seen: int, outcome: Outcome, *, by: str, why: str, successor_id: str
) -> None:
    """As `end`, with one call to the server, for whoever saw the letter's open record at the sequence `seen`.

    0 stands for none. Should somebody have written there since, it is `end`.
    """
    headers = _headers(session.options, letter, outcome, by, why, successor_id)
    headers["Nats-Expected-Last-Subject-Sequence"] = str(seen)
    try:
        await session.publish(record_subject(session.options, letter), b"", headers)
    except PublishRefusedError as error:
        if error.code not in LOST_RACE:
            raise
        await end(session, letter, outcome, by=by, why=why, successor_id=successor_id)


def _headers(
    options: BrokerOptions, letter: DeadLetter, outcome: Outcome, by: str, why: str, successor_id: str | None
) -> dict[str, str]:
    headers = {
        "Nats-Rollup": "sub",
        "Nats-TTL": _lifetime(options.dead_record_max_age_seconds),
        # What carries this leaves no marker of its own; a record must not end as "expired".
        _MARKER: "Remove",
        "Dead-Outcome": str(outcome),
        "Dead-By": json.dumps(by[:_BY_CHARACTERS]),
        "Dead-Why": json.dumps(why[:_WHY_CHARACTERS]),
        "Dead-At": letter.dead_at.isoformat(),
        "Dead-Reason": letter.reason,
        "Dead-Actor": json.dumps(letter.actor),
        "Dead-Message-Id": json.dumps(letter.message_id),
        "Dead-Error-Class": letter.error_class or "",
    }
    return headers | ({"Dead-Successor-Id": successor_id} if successor_id else {})


def read_ended(stored: Stored) -> EndedLetter | None:
    """The record of an ended letter; None for an open one and for what is no record."""
    words, headers = stored.subject.split(".")[-5:], stored.headers
    if len(words) < len(("queue", "id", "reason", "actor", "message")) or not words[1].isdigit():
        return None
    outcome = headers.get("Dead-Outcome") or (Outcome.EXPIRED if headers.get(_MARKER) == "MaxAge" else None)
    if outcome not in set(Outcome):
        return None
    told = outcome != Outcome.EXPIRED
    return EndedLetter(
        id=int(words[1]),
        queue=words[0],
        outcome=Outcome(outcome),
        ended_at=stored.stored_at,
        reason=headers.get("Dead-Reason", words[2]),
        actor=stored.text("Dead-Actor") if told else _word(words[3]),
        message_id=stored.text("Dead-Message-Id") if told else _word(words[4]),
        record=stored.sequence,
        by=stored.text("Dead-By") or "",
        why=stored.text("Dead-Why") or "",
        successor_id=headers.get("Dead-Successor-Id"),
        error_class=headers.get("Dead-Error-Class") or None,
        dead_at=stored.time("Dead-At"),
    )


def _word(word: str) -> str | None:
    return None if word == _NOBODY else word


def is_of(ended: EndedLetter, letter: DeadLetter) -> bool:
    """Whether a record on the letter's subject is the letter's own, not that of one in a stream made anew."""
    return ended.dead_at == letter.dead_at


async def of_letter(session: Session, letter: DeadLetter) -> tuple[EndedLetter | None, int]:
    """How a letter ended that is still stored: whoever ended it got no further than the record.

    None where it has not; beside it, the sequence at which the record lies, 0 for none.
    """
    stream, subject = session.options.dead_record_stream, record_subject(session.options, letter)
    last = await browse.one(session, stream, last_by_subj=subject)
    if last is None:
        return None, 0
    ended = read_ended(last)
    return (ended if ended is not None and is_of(ended, letter) else None), last.sequence


async def of_id(session: Session, dead_letter_id: int) -> EndedLetter | None:
    """The newest record of a letter that is gone."""
    subject = f"{session.options.subject_root}.record.*.{dead_letter_id}.>"
    last = await browse.one(session, session.options.dead_record_stream, last_by_subj=subject)
    return read_ended(last) if last is not None else None


async def list_ended(
    session: Session, limit: int, *, queue: str | None, outcome: str | None, before: int | None
) -> list[EndedLetter]:
    """Records of ended letters, the newest first."""
    options = session.options
    state = (await session.api(f"STREAM.INFO.{options.dead_letter_stream}"))["state"]

    def read(stored: Stored) -> EndedLetter | None:
        ended = read_ended(stored)
        if ended is None or outcome not in {None, ended.outcome}:
            return None
        # With a longer age set since, the record expires before the letter, which lives on.
        alive = ended.outcome == Outcome.EXPIRED and ended.id >= state["first_seq"]
        return None if alive else ended

    subject = f"{options.subject_root}.record.{token(queue) if queue else '*'}.>"
    return await browse.newest_first(
        session, options.dead_record_stream, subject, read, limit=limit, before=before
    )
