"""Reading the status stream without following it, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

from brokers import JetStreamBroker, publish_event, read_events
from tests.contract.broker.harness import only_ours

pytestmark = only_ours


def store(broker: JetStreamBroker, *words: str) -> None:
    for word in words:
        publish_event(broker, f"transforms.status.{word}", word.encode(), confirm=True)


def test_events_are_read_page_by_page_from_any_place(broker: JetStreamBroker) -> None:
    begin = read_events(broker, "transforms.status.>", 0).last
    store(broker, "a.x", "b.x", "a.x", "a.y", "a.x")
    page = read_events(broker, "transforms.status.a.>", begin, limit=3)
    numbers = [begin + 1, begin + 3, begin + 4]
    words = ["a.x", "a.x", "a.y"]
    assert [tuple(event) for event in page.events] == [
        (number, f"transforms.status.{word}", word.encode())
        for number, word in zip(numbers, words, strict=True)
    ]
    assert (page.complete, page.last) == (False, begin + 5)
    rest = read_events(broker, "transforms.status.*.x", begin + 4)
    assert ([event[0] for event in rest.events], rest.complete) == ([begin + 5], True)
    assert read_events(broker, "transforms.status.c", 0).events == []


def test_a_page_says_whether_it_may_lack_events(broker: JetStreamBroker) -> None:
    store(broker, "a", "b")
    page = read_events(broker, "transforms.status.>", 0)
    assert page.misses_after(page.last + 1)
    assert not page.misses_after(page.last)
    assert not page.misses_after(page.first - 1)
    assert page.misses_after(page.first - 2)
