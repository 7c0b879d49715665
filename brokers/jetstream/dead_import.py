"""Dead letters that left their stream, stored once more from what was kept of them elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from brokers.jetstream import dead_records
from brokers.jetstream.browse import Stored
from brokers.jetstream.burial import DeadLetter, headers_of, read_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.topology import dead_subject, token

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker


def bring_back(broker: JetStreamBroker, letters: Mapping[str, DeadLetter]) -> list[DeadLetter]:
    """Store letters with their payloads, each under a key, and return them as they lie there now.

    Each has a new id and a new time to live. One that was stored under the same key within the last minutes
    (the stream's duplicate window) is not stored twice. Raises MessageTooLargeError, PublishRefusedError
    and Dramatiq's connection errors; those before the one that failed are stored then.
    """
    session = broker.connection.session()
    return [broker.connection.run(_bring_back(session, key, letter)) for key, letter in letters.items()]


async def _bring_back(session: Session, key: str, letter: DeadLetter) -> DeadLetter:
    headers = headers_of(letter) | {"Nats-Msg-Id": f"back:{token(key)}"}
    subject = dead_subject(session.options, token(letter.queue))
    sequence = await session.publish(subject, letter.payload or b"", headers)
    stored = read_letter(Stored(sequence, subject, headers, datetime.now(UTC), letter.payload), 0)
    await dead_records.begin(session, stored)
    return dataclasses.replace(stored, payload=letter.payload)
