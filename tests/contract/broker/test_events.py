"""Events, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brokers import EventSubscription, JetStreamBroker, publish_event, subscribe_events
from tests.contract.broker.harness import only_ours
from tests.integration.broker.workers import wait_until

pytestmark = only_ours

Follow = Callable[..., list[tuple[int, str, bytes]]]
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def follow(broker: JetStreamBroker) -> Iterator[Follow]:
    """Subscribe, and get the growing list of what was seen."""
    running: list[EventSubscription] = []

    def start(subject: str, **options: Any) -> list[tuple[int, str, bytes]]:
        seen: list[tuple[int, str, bytes]] = []
        running.append(subscribe_events(broker, subject, lambda *event: seen.append(event), **options))
        return seen

    yield start
    for subscription in running:
        subscription.close()


def publish(broker: JetStreamBroker, *words: str, msg_id: str | None = None) -> None:
    for word in words:
        subject = f"transforms.status.collection.{word}"
        publish_event(broker, subject, word.encode(), msg_id, confirm=True)


def test_events_are_followed_in_their_order(broker: JetStreamBroker, follow: Follow) -> None:
    seen = follow("transforms.status.>", start_time=LONG_AGO)
    words = [f"w{number}" for number in range(20)]
    publish(broker, *words)
    wait_until(lambda: len(seen) == len(words))
    assert [(subject, data) for _, subject, data in seen] == [
        (f"transforms.status.collection.{word}", word.encode()) for word in words
    ]
    sequences = [sequence for sequence, _, _ in seen]
    assert sequences == list(range(sequences[0], sequences[0] + len(words)))


def test_a_follower_can_begin_at_a_sequence_that_it_knows(broker: JetStreamBroker, follow: Follow) -> None:
    publish(broker, "a", "b", "c")
    seen = follow("transforms.status.>", start_time=LONG_AGO)
    wait_until(lambda: len(seen) == 3)
    later = follow("transforms.status.>", start_sequence=seen[1][0])
    wait_until(lambda: later == seen[1:])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("transforms.status.collection.b", [b"b"]),
        ("transforms.status.*.c", [b"c"]),
        ("transforms.status.collection.>", [b"a", b"b", b"c"]),
    ],
)
def test_a_follower_sees_its_subjects_only(
    broker: JetStreamBroker, follow: Follow, pattern: str, words: list[bytes]
) -> None:
    seen = follow(pattern, start_time=LONG_AGO)
    everything = follow("transforms.status.>", start_time=LONG_AGO)
    publish(broker, "a", "b", "c")
    wait_until(lambda: len(everything) == 3 and len(seen) == len(words))
    assert [data for _, _, data in seen] == words


def test_an_event_with_a_known_id_is_stored_once(broker: JetStreamBroker, follow: Follow) -> None:
    seen = follow("transforms.status.>", start_time=LONG_AGO)
    name = f"id-{datetime.now(UTC).timestamp()}"
    publish(broker, "same", "same", msg_id=name)
    publish(broker, "last")
    wait_until(lambda: seen and seen[-1][2] == b"last")
    assert [data for _, _, data in seen] == [b"same", b"last"]


def test_a_callback_that_fails_is_logged_and_called_again(
    broker: JetStreamBroker, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[bytes] = []

    def fail(_sequence: int, _subject: str, data: bytes) -> None:
        calls.append(data)
        raise ZeroDivisionError

    subscription = subscribe_events(broker, "transforms.status.>", fail, start_time=LONG_AGO)
    publish(broker, "a", "b")
    wait_until(lambda: calls == [b"a", b"b"])
    wait_until(lambda: caplog.text.count("An event callback for transforms.status.> failed.") == 2)
    subscription.close()
    subscription.close()
