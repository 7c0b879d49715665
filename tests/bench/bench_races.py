"""`make bench-races`: cancels and run-nows around the due moments of many messages, on one server and three.

RACES= (1000) for each of the two. Printed is how many races ended how; "cancelled, but ran", "lost" and
"ran 2 times" must not be among them (exit status 1).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage

from brokers import JetStreamBroker, QueueSpec, topology
from tests.integration.broker import races
from tests.integration.broker.server import NatsCluster, NatsServer
from tests.integration.broker.workers import make_options

_QUEUE = QueueSpec(name="races", stream="RACES")
_LEAD_SECONDS = 4.0  # twice the last moments, which on a cluster are the timer's


def main() -> int:
    number, wrong = int(os.environ.get("RACES", "1000")), 0  # noqa: TID251
    print(f"| {number:,} races | ended | how many |\n|---|---|---|")
    for title, replicas in (("one server", 1), ("three servers", 3)):
        started = time.monotonic()
        found = _held(number, replicas)
        for outcome, count in found.most_common():
            print(f"| {title} | {outcome} | {count:,} |")
        print(f"{title}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        wrong += sum(count for outcome, count in found.items() if outcome not in races.FINE)
    return 1 if wrong else 0


def _held(number: int, replicas: int) -> Counter[str]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store = Path(folder)
        server = NatsServer(store) if replicas == 1 else NatsCluster(store, replicas)
        server.start()
        try:
            return _race(number, server.url, replicas)
        finally:
            server.kill()


def _race(number: int, url: str, replicas: int) -> Counter[str]:
    options = make_options(url, replicas=replicas, connect_timeout_seconds=5.0, publish_timeout_seconds=10.0)
    topology.apply(options, [_QUEUE])
    broker = JetStreamBroker(options, [_QUEUE])
    broker.add_middleware(CurrentMessage())
    runs = list[str]()

    def job() -> None:
        current: Any = CurrentMessage.get_current_message()
        runs.append(current.message_id)

    decorate: Any = dramatiq.actor(queue_name=_QUEUE.name, broker=broker)
    actor: dramatiq.Actor[..., object] = decorate(job)
    worker = dramatiq.Worker(broker, worker_threads=4)
    worker.start()
    try:
        racers = races.hold_races(broker, actor, number, lead_seconds=_LEAD_SECONDS)
        broker.join(_QUEUE.name, timeout=120_000)
        worker.join()
    finally:
        worker.stop(timeout=5_000)
        broker.close()
    return races.outcomes(racers, runs)


if __name__ == "__main__":
    sys.exit(main())
