"""The broker's own middleware: what must happen at a worker's boot, start of a run, and shutdown."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

from dramatiq.broker import Broker, MessageProxy
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import Middleware, SkipMessage, TimeLimit
from dramatiq.worker import Worker

from brokers.jetstream.message import JetStreamMessage

_DEFAULT_TIME_LIMIT_MS = 600_000.0


def time_limit_seconds(broker: Broker, message: Any) -> float:
    """How long the message's actor may run: Dramatiq's TimeLimit rules, in seconds."""
    actor = broker.actors.get(message.actor_name)
    limit = message.options.get("time_limit") or (actor and actor.options.get("time_limit"))
    return float(limit) / 1000 if limit else _default_limit_seconds(broker)


def longest_time_limit(broker: Broker) -> float:
    """The longest time limit of any actor of this process, in seconds."""
    default = _default_limit_seconds(broker)
    limits = [actor.options.get("time_limit") for actor in tuple(broker.actors.values())]
    return max((float(limit) / 1000 if limit else default for limit in limits), default=default)


def _default_limit_seconds(broker: Broker) -> float:
    found = [m.time_limit for m in broker.middleware if isinstance(m, TimeLimit)]
    return float(found[0] if found else _DEFAULT_TIME_LIMIT_MS) / 1000


class Lifecycle(Middleware):
    """Runs before every other middleware. Only used inside JetStreamBroker."""

    def before_worker_boot(self, broker: Any, worker: Worker) -> None:
        """Hold no more messages than there are threads to start them."""
        broker.worker_threads = worker.worker_threads

    def before_process_message(self, broker: Any, message: MessageProxy) -> None:
        """Start the clock of the heartbeats, and note the run if its message was delivered before."""
        if not isinstance(message, JetStreamMessage):
            return
        delivery = message.delivery
        if not delivery.claim():
            message.hand_back(0)
            raise SkipMessage("The message was given back before it began.")
        if delivery.lost:  # this process was stopped, or cut off
            message.hand_back(0)
            raise SkipMessage("Others may have the message by now.")
        delivery.began = time.monotonic()
        message.started_at = time.time()
        delivery.beat_until = delivery.began + time_limit_seconds(broker, message)
        broker.begun(delivery)
        if delivery.redelivered:
            self._note_start(broker, message)

    def _note_start(self, broker: Any, message: JetStreamMessage) -> None:
        try:
            broker.note_start(message)
        except BrokerConnectionError as error:
            message.hand_back(broker.options.hand_back_seconds)
            raise SkipMessage("The start of the run could not be recorded.") from error

    def before_worker_shutdown(self, broker: Any, worker: Worker) -> None:
        """Give back at once what no thread has started; Dramatiq would keep it until the others end."""
        broker.stop_intakes()
        try:
            while True:
                worker.work_queue.get_nowait()
                worker.work_queue.task_done()
        except Empty:
            broker.give_back_held(started=False)

    def after_worker_shutdown(self, broker: Any, worker: Worker) -> None:  # noqa: ARG002 (Dramatiq's signature)
        """Give back what still runs after the grace period: interrupted, not failed."""
        broker.give_back_held(started=True)
