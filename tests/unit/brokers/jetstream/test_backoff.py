"""The pauses between two tries to connect."""

from __future__ import annotations

import random
from typing import Any

import pytest

from brokers import BrokerOptions
from brokers.jetstream.backoff import Backoff


def pauses(count: int, **options: Any) -> list[float]:
    backoff = Backoff(BrokerOptions(**options))
    return [backoff.next() for _ in range(count)]


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


@pytest.mark.usefixtures("no_jitter")
def test_the_pause_doubles_up_to_its_limit() -> None:
    assert pauses(6, reconnect_seconds=0.5, max_reconnect_seconds=5) == [0.5, 1, 2, 4, 5, 5]
    assert pauses(2000)[-1] == 5


@pytest.mark.usefixtures("no_jitter")
def test_it_grows_when_all_servers_were_tried() -> None:
    assert pauses(7, servers="nats://a,nats://b,nats://c") == [1, 1, 1, 2, 2, 2, 4]


@pytest.mark.usefixtures("no_jitter")
def test_after_a_connection_it_begins_anew() -> None:
    backoff = Backoff(BrokerOptions())
    assert [backoff.next(), backoff.next()] == [1, 2]
    backoff.reset()
    assert backoff.next() == 1


def test_each_pause_is_give_or_take_half() -> None:
    found = pauses(200, max_reconnect_seconds=1)
    assert len(set(found)) == 200
    assert 0.5 <= min(found) < 0.7
    assert 1.3 < max(found) <= 1.5


def test_a_limit_below_the_first_pause_is_refused() -> None:
    with pytest.raises(ValueError, match="max_reconnect_seconds must be at least reconnect_seconds"):
        BrokerOptions(reconnect_seconds=6)
