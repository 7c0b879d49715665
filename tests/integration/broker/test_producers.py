"""Producers in several processes at the same moment."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from brokers import BrokerOptions, JetStreamBroker, NotUniqueError
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until

_PROCESSES, _THREADS = 4, 250


def race(options: BrokerOptions, start: Any, told: Any) -> None:
    """Each thread is a producer; all are let go when those of all processes wait."""
    broker = JetStreamBroker(options, QUEUES)
    stored: list[str] = []
    met: list[str | None] = []
    ready = threading.Barrier(_THREADS + 1)

    def produce(_: int) -> None:
        ready.wait(60)
        try:
            stored.append(broker.enqueue(message("work", unique_key="report:7")).message_id)
        except NotUniqueError as error:
            met.append(error.message_id)

    broker.get_queue_message_counts("quick")  # connected before it begins
    with ThreadPoolExecutor(_THREADS) as pool:
        producing = pool.map(produce, range(_THREADS))
        wait_until(lambda: ready.n_waiting == _THREADS)
        start.wait(60)
        ready.wait(60)
        list(producing)
    told.put((stored, met))
    broker.close()


def test_of_a_thousand_producers_in_four_processes_one_gets_in(
    server: NatsServer, broker: JetStreamBroker
) -> None:
    patient = make_options(server.url, publish_timeout_seconds=30.0, connect_timeout_seconds=10.0)
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(_PROCESSES), context.Queue()
    racers = [context.Process(target=race, args=(patient, start, told)) for _ in range(_PROCESSES)]
    for racer in racers:
        racer.start()
    reports = [told.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join(30)
    stored = [message_id for ours, _ in reports for message_id in ours]
    met = [message_id for _, theirs in reports for message_id in theirs]
    assert len(stored) == 1
    assert met == stored * 999
    assert broker.get_queue_message_counts("quick") == (1, 0, 0)
