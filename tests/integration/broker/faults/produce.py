"""A producer as a process of its own: `python -m …produce <count> <per second> <job seconds> <mixed>`."""

from __future__ import annotations

import sys
import time
from typing import Any

from dramatiq.errors import BrokerError

from brokers import JetStreamBroker
from tests.integration.broker.faults.history import Kind
from tests.integration.broker.faults.jobs import chosen_broker, history
from tests.integration.broker.workers import message

_PATIENCE_SECONDS, _PAUSE_SECONDS = 60.0, 0.2


def plan(number: int, seconds: float, *, mixed: bool) -> tuple[Any, int | None]:
    """The message of a number and its delay: of mixed ones some fail once, some always, some wait."""
    failures = 0 if not mixed or number % 10 else 1 if number % 50 else 99
    sent = message("job", seconds, failures, max_retries=1)
    return sent, 500 if mixed and number % 7 == 0 else None


def send(broker: JetStreamBroker, sent: Any, delay: int | None) -> bool:
    """Enqueue once and write down how it went; True when it is stored."""
    history().write(Kind.ATTEMPTED, sent.message_id)
    try:
        broker.enqueue(sent, delay=delay)
    except BrokerError as error:
        history().write(Kind.REFUSED, sent.message_id, detail=f"{type(error).__name__}: {error}")
        return False
    history().write(Kind.STORED, sent.message_id)
    return True


def produce(broker: JetStreamBroker, count: int, rate: float, seconds: float, *, mixed: bool) -> None:
    """Enqueue at a rate. Every second message that is refused is tried again until it is stored."""
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        sent, delay = plan(number, seconds, mixed=mixed)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not send(broker, sent, delay) and number % 2 and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)


def main() -> None:
    broker = chosen_broker()
    count, rate, seconds, mixed = sys.argv[1:]
    produce(broker, int(count), float(rate), float(seconds), mixed=mixed == "mixed")
    broker.close()


if __name__ == "__main__":
    main()
