"""Several messages of one stream stored together or not at all (the server's atomic batches)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

import nats.errors
import nats.js.errors

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import (
    AWAY,
    BATCH_DISABLED,
    MessageTooLargeError,
    PublishRefusedError,
    connection_error,
)
from brokers.jetstream.publisher import may_take_it_later

Publication = tuple[str, bytes, dict[str, str]]  # subject, payload, headers

_ANSWER_SECONDS, _PAUSE_SECONDS = 2.0, 0.2


async def publish_batch(session: Session, messages: Sequence[Publication]) -> int:
    """Store all messages or none, and return the sequence of the last; theirs are consecutive.

    It is sent again when the answer is lost, so one of them must refuse to be stored twice (an
    expected sequence or a message id). Raises PublishRefusedError, MessageTooLargeError, and
    Dramatiq's connection errors.
    """
    deadline = time.monotonic() + session.options.publish_timeout_seconds
    last = messages[-1][0]
    while True:
        try:
            answer = await _send(await session.client(), messages)
            if "error" in answer:
                nats.js.errors.APIError.from_error(answer["error"])  # raises
            return int(answer["seq"])
        except nats.errors.MaxPayloadError as error:
            raise MessageTooLargeError(f"a message for {last} is larger than the server takes") from error
        except AWAY as error:
            cause: BaseException = error
        except nats.js.errors.APIError as error:
            if not may_take_it_later(error):
                raise _refused(last, error) from error
            cause = error
        if time.monotonic() + _PAUSE_SECONDS >= deadline:
            raise connection_error(f"publishing a batch on {last}", cause) from cause
        await asyncio.sleep(_PAUSE_SECONDS)


async def _send(client: Any, messages: Sequence[Publication]) -> dict[str, Any]:
    batch = uuid.uuid4().hex
    for number, (subject, payload, headers) in enumerate(messages, 1):
        numbered = {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number < len(messages):
            await client.publish(subject, payload, headers=numbered)
    answer = await client.request(
        subject, payload, _ANSWER_SECONDS, headers={**numbered, "Nats-Batch-Commit": "1"}
    )
    return dict(json.loads(answer.data))


def _refused(subject: str, error: nats.js.errors.APIError) -> PublishRefusedError:
    hint = "; apply the streams' configuration again" if error.err_code == BATCH_DISABLED else ""
    refused = PublishRefusedError(f"publishing a batch on {subject}: {error.description}{hint}")
    refused.code = error.err_code or 0
    return refused
