"""Closing a backend that shares its broker's connection, and one that has its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brokers import BrokerOptions, JetStreamBroker, JetStreamRateLimiterBackend, JetStreamResultBackend
from tests.contract.broker.harness import depth, only_ours
from tests.integration.broker.workers import message, wait_until

Backend = JetStreamRateLimiterBackend | JetStreamResultBackend
BACKENDS = [JetStreamRateLimiterBackend, JetStreamResultBackend]


@only_ours
@pytest.mark.parametrize("make", BACKENDS)
def test_closing_a_backend_leaves_the_brokers_connection_open(
    broker: JetStreamBroker, make: Callable[[JetStreamBroker], Backend]
) -> None:
    backend = make(broker)
    broker.enqueue(message("work", queue="default"))
    session = broker.connection.current
    backend.close()
    assert broker.connection.current is session
    wait_until(lambda: depth(broker).ready == 1)  # a cluster's consumer may hear of it a moment later


@pytest.mark.parametrize("make", BACKENDS)
def test_closing_a_backend_closes_a_connection_of_its_own(
    server_url: str, make: Callable[[BrokerOptions], Backend]
) -> None:
    backend = make(BrokerOptions(servers=server_url))
    backend.connection.session()
    assert backend.connection.current is not None
    backend.close()
    assert backend.connection.current is None
