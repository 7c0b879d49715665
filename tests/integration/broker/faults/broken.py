"""Brokers with one bug each. A checker that has never been seen to fail proves nothing.

They break the real broker at Dramatiq's own interface where that is possible, so that they stay
broken whatever becomes of its inside.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import BrokerError
from dramatiq.message import Message, generate_unique_id

from brokers import JetStreamBroker
from brokers.jetstream import outgoing as core
from brokers.jetstream.message import JetStreamMessage, publish_headers
from tests.integration.broker.faults.jobs import RecordingBroker, RecordingConsumer


class _Around(RecordingConsumer):
    """A consumer that behaves well, for the others to misbehave in one place."""

    def __next__(self) -> MessageProxy | None:
        return next(self.inner)


class _AcksBeforeRunning(_Around):
    def __next__(self) -> MessageProxy | None:
        message = next(self.inner)
        if message is not None:
            self.inner.ack(message)
            delivery = message.delivery  # the worker would not run what it knows to be settled
            message.delivery = replace(delivery, settled=False)  # type: ignore[attr-defined]  # ours
        return message

    def ack(self, message: MessageProxy) -> None:
        """It was acknowledged when it came."""


class _ForgetsDeadLetters(_Around):
    def nack(self, message: MessageProxy) -> None:
        self.inner.ack(message)


class _RunsWhatItWasNotGiven(_Around):
    def __init__(self, inner: Consumer) -> None:
        super().__init__(inner)
        self._again: MessageProxy | None = None

    def __next__(self) -> MessageProxy | None:
        message, self._again = self._again, None
        if message is None:
            message = next(self.inner)
            self._again = _counterfeit(message)
        return message

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """What it made up cannot go back."""


def _counterfeit(message: Any) -> MessageProxy | None:
    """The same delivery once more, as if nobody had begun it."""
    if message is None:
        return None
    again = JetStreamMessage(message._message, replace(message.delivery, _unclaimed=[None]))
    again.__dict__ |= {name: value for name, value in message.__dict__.items() if name not in again.__dict__}
    return again


class AcksBeforeRunning(RecordingBroker):
    """A worker that dies takes its messages with it."""

    def consume(self, *args: Any, **kwargs: Any) -> Any:
        return _AcksBeforeRunning(super().consume(*args, **kwargs))


class ForgetsDeadLetters(RecordingBroker):
    """A message that is given up ends without a dead letter."""

    def consume(self, *args: Any, **kwargs: Any) -> Any:
        return _ForgetsDeadLetters(super().consume(*args, **kwargs))


class RunsWhatItWasNotGiven(RecordingBroker):
    """Every message runs twice in the hands that hold it once."""

    def consume(self, *args: Any, **kwargs: Any) -> Any:
        return _RunsWhatItWasNotGiven(super().consume(*args, **kwargs))


class DoesNotWaitForConfirmation(RecordingBroker):
    """Enqueue says "stored" before the server has."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        threading.Thread(target=self._store_somewhen, args=(message, delay), daemon=True).start()
        return message

    def _store_somewhen(self, message: Message[Any], delay: int | None) -> None:
        with contextlib.suppress(BrokerError):
            super().enqueue(message, delay=delay)


class SwallowsRetries(RecordingBroker):
    """A retry that is not stored, and nobody hears of it."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        return message if message.options.get("retries") else super().enqueue(message, delay=delay)


class RenamesRetries(RecordingBroker):
    """A retry under a new id: nobody knows whose work it is."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        if message.options.get("retries"):
            message = message.copy(message_id=generate_unique_id())
        return super().enqueue(message, delay=delay)


class DropsTheMessageId(RecordingBroker):
    """What is sent again is stored again."""

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        core.publish_headers = _without_id  # type: ignore[attr-defined]  # where the broker finds it
        return super().enqueue(message, delay=delay)


def _without_id(message: Any) -> dict[str, str]:
    return {name: text for name, text in publish_headers(message).items() if name != "Nats-Msg-Id"}


VARIANTS: dict[str, type[JetStreamBroker]] = {
    kind.__name__: kind
    for kind in (
        AcksBeforeRunning,
        DoesNotWaitForConfirmation,
        DropsTheMessageId,
        ForgetsDeadLetters,
        RenamesRetries,
        RunsWhatItWasNotGiven,
        SwallowsRetries,
    )
}
