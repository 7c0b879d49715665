"""Cancelling one of a crowd that is due: the timer takes all of it out before it sends the first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from brokers import JetStreamBroker, NotScheduledError, control, inspect, topology
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until

_CROWD, _LAST = 1_000, 20


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[NatsServer]:
    """One that syncs at every write: it sends a few thousand messages a second."""
    configuration = tmp_path / "nats.conf"
    configuration.write_text("jetstream { sync_interval: always }\n")
    server = NatsServer(tmp_path / "nats", "-c", str(configuration))
    server.start()
    yield server
    server.kill()


def test_nobody_cancels_what_the_timer_has_taken_out_and_not_sent_yet(slow_server: NatsServer) -> None:
    options = make_options(slow_server.url, connect_timeout_seconds=10.0, publish_timeout_seconds=30.0)
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    due = time.time() + 1.2
    sent = broker.enqueue_many(message("work", eta=due * 1000) for _ in range(_CROWD))
    time.sleep(max(0.0, due - time.time()))
    wait_until(lambda: inspect.depth(broker, broker.specs["quick"]).ready)

    def cancelled(message_id: str) -> bool:
        try:
            control.cancel(broker, "quick", message_id)
        except NotScheduledError:
            return False
        return True

    with ThreadPoolExecutor(_LAST) as pool:
        gone = sum(pool.map(cancelled, [one.message_id for one in sent[-_LAST:]]))
    wait_until(lambda: inspect.depth(broker, broker.specs["quick"]).scheduled == 0)
    assert broker.get_queue_message_counts("quick") == (_CROWD - gone, 0, 0)
    broker.close()
