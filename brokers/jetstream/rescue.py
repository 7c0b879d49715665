"""The net below max_deliver: messages that the server will not deliver again are found and renewed.

A message is renewed long before its last delivery, so this happens only when workers died on two
deliveries in a row before they could look at it. The server tells nobody unless somebody pulls at
that moment, so idle workers look for themselves.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import nats.js.errors
from dramatiq.errors import BrokerConnectionError

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import JetStreamError
from brokers.jetstream.message import CARRIED_HEADER
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.overdue import Overdue
from brokers.jetstream.topology import ready_subject

log = logging.getLogger(__name__)


async def patrol(session: Session, spec: QueueSpec, every_seconds: float) -> None:
    """Look for stranded (seen twice) and overdue messages of a queue now and then, for ever."""
    suspect: int | None = None
    overdue = Overdue(session, spec)
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await overdue.nudge()
            found = await find_stranded(session, spec)
            if found is not None and int(found["seq"]) == suspect:
                await renew_stranded(session, spec, found)
            suspect = int(found["seq"]) if found is not None else None
        except (BrokerConnectionError, JetStreamError, nats.js.errors.APIError) as error:
            log.debug("Could not look for forgotten messages of %s: %s", spec.name, error)


async def find_stranded(session: Session, spec: QueueSpec) -> dict[str, Any] | None:
    """The oldest message that was delivered, is not being worked on, and yet is still stored."""
    consumer = await session.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
    idle = not consumer["num_ack_pending"]
    limit = int(consumer["delivered" if idle else "ack_floor"]["stream_seq"])
    body = {"seq": 1, "next_by_subj": ready_subject(session.options, spec.name)}
    try:
        answer = await session.api(f"STREAM.MSG.GET.{spec.stream}", body)
    except nats.js.errors.NotFoundError:
        return None
    message: dict[str, Any] = answer["message"]
    return message if int(message["seq"]) <= limit else None


async def renew_stranded(session: Session, spec: QueueSpec, found: dict[str, Any]) -> None:
    """Store the message under a new sequence, then remove the stranded one."""
    sequence = int(found["seq"])
    log.warning("Message %s of %s had no deliveries left; it is renewed.", sequence, spec.name)
    headers = {
        "Nats-Msg-Id": f"stranded:{spec.stream}:{sequence}",
        CARRIED_HEADER: str(session.options.max_deliver),
    }
    payload = base64.b64decode(found.get("data") or "")
    await session.publish(ready_subject(session.options, spec.name), payload, headers)
    await session.api(f"STREAM.MSG.DELETE.{spec.stream}", {"seq": sequence})
