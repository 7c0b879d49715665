"""Retries on a fixed schedule, stored at the server before the failed run is acknowledged."""

from __future__ import annotations

import time
import traceback
from typing import Any

from dramatiq.broker import Broker, MessageProxy
from dramatiq.common import compute_backoff
from dramatiq.errors import BrokerConnectionError, Retry
from dramatiq.middleware import Retries, Shutdown

from brokers.jetstream.errors import MessageTooLargeError
from brokers.jetstream.message import DeadReason, JetStreamMessage, attempt_of, note_attempt
from brokers.jetstream.options import BrokerOptions
from brokers.jetstream.schedule import is_past

_TRACE_CHARACTERS = 4000


def _option(message: MessageProxy, actor: Any, name: str, default: Any) -> Any:
    return message.options.get(name, actor.options.get(name, default))


class ScheduledRetries(Retries):
    """Dramatiq's Retries with our schedule (30, 60, 120, 300 s; five attempts in all by default).

    `max_retries`, `retry_when`, `throws`, `on_retry_exhausted` and dramatiq.Retry(delay=…) work as
    in Dramatiq; an actor or message with a `min_backoff` gets Dramatiq's exponential backoff.
    An exception with a `retry_after_seconds` waits at least that long. Exceptions in `throws` are
    dead at once; those in `no_dead_letter` end the message quietly. A run that was interrupted by
    its worker's shutdown goes back to the queue and costs no attempt.
    """

    def __init__(self, options: BrokerOptions, **settings: Any) -> None:
        super().__init__(max_retries=options.max_retries, **settings)
        self._options = options

    @property
    def actor_options(self) -> set[str]:
        """Dramatiq's retry options and ours."""
        return {*super().actor_options, "no_dead_letter"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 (Dramatiq's signature)
        exception: BaseException | None = None,
    ) -> None:
        """Retry, give up, hand back or let go of a message whose run raised.

        Dramatiq swallows what is raised here and then acknowledges the message. So whatever goes wrong,
        it must be given up or handed back before this returns; never neither.
        """
        if exception is None:
            return
        try:
            self._decide(broker, message, exception)
        except BrokerConnectionError:
            raise  # the broker hands the message back
        except Exception as problem:
            self.logger.critical(
                "Retrying message %r failed: %r.", message.message_id, problem, exc_info=True
            )
            if not message.failed:
                self._give_up(message, exception, DeadReason.REJECTED)

    def _decide(self, broker: Broker, message: MessageProxy, exception: BaseException) -> None:
        actor = broker.get_actor(message.actor_name)
        quiet = actor.options.get("no_dead_letter")
        throws = _option(message, actor, "throws", None)
        if isinstance(exception, Shutdown) and isinstance(message, JetStreamMessage):
            message.hand_back(0)
        elif quiet and isinstance(exception, quiet):
            self.logger.info("Message %r ended quietly: %s.", message.message_id, exception)
        elif throws and isinstance(exception, throws):
            self.logger.info("Aborting message %r.", message.message_id)
            self._give_up(message, exception, DeadReason.PERMANENT_ERROR)
        else:
            self._retry(broker, actor, message, exception)

    def _give_up(self, message: MessageProxy, error: BaseException, reason: DeadReason) -> None:
        if isinstance(message, JetStreamMessage):
            note_attempt(message, error, version=self._options.version)
            message.dead_reason = reason
        message.fail()

    def _retry(self, broker: Broker, actor: Any, message: MessageProxy, error: BaseException) -> None:
        retries = message.options["retries"] = attempt_of(message)
        if not self._may_retry(message, actor, retries, error):
            self.logger.warning("Retries exceeded for message %r.", message.message_id)
            self._give_up(message, error, DeadReason.ATTEMPTS_EXHAUSTED)
            self._tell_exhausted(broker, actor, message, retries)
            return
        delay = self._delay_ms(message, actor, retries, error)
        if is_past(message.options.get("deadline"), in_ms=delay):
            self._give_up(message, error, DeadReason.EXPIRED)
            return
        if isinstance(message, JetStreamMessage):
            note_attempt(message, error, version=self._options.version, next_delay_seconds=delay / 1000)
        message.options["retries"] = retries + 1
        message.options["traceback"] = "".join(traceback.format_exception(error, limit=30))[
            -_TRACE_CHARACTERS:
        ]
        message.options["requeue_timestamp"] = int(time.time() * 1000)
        self.logger.info("Retrying message %r in %d milliseconds.", message.message_id, delay)
        try:
            broker.enqueue(message, delay=delay)  # type: ignore[arg-type]  # Dramatiq passes the proxy, too
            if isinstance(message, JetStreamMessage):
                message.continued = True
        except MessageTooLargeError as too_large:
            self._give_up(message, too_large, DeadReason.REJECTED)

    def _may_retry(self, message: MessageProxy, actor: Any, retries: int, error: BaseException) -> bool:
        retry_when = actor.options.get("retry_when", self.retry_when)
        if retry_when is not None:
            return bool(retry_when(retries, error))
        most = _option(message, actor, "max_retries", self.max_retries)
        return most is None or retries < most

    def _delay_ms(self, message: MessageProxy, actor: Any, retries: int, error: BaseException) -> int:
        if isinstance(error, Retry) and error.delay is not None:
            return int(error.delay)
        shortest = _option(message, actor, "min_backoff", None)
        longest = _option(message, actor, "max_backoff", self.max_backoff)
        if shortest is None:
            delay = min(self._options.backoff_after(retries) * 1000, longest)
        else:
            _, delay = compute_backoff(retries, factor=shortest, max_backoff=longest)
        asked = getattr(error, "retry_after_seconds", None)
        return int(max(delay, asked * 1000 if isinstance(asked, int | float) else 0))

    def _tell_exhausted(self, broker: Broker, actor: Any, message: MessageProxy, retries: int) -> None:
        name = _option(message, actor, "on_retry_exhausted", None)
        if name:
            limits = {
                "retries": retries,
                "max_retries": _option(message, actor, "max_retries", self.max_retries),
            }
            broker.get_actor(name).send(message.asdict(), limits)
