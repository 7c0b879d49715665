from __future__ import annotations

import threading
import time

import pytest
from nats.aio.msg import Msg

from brokers import JetStreamBroker, publish_event, subscribe_events
from brokers.jetstream.connection import loop_thread
from brokers.jetstream.pull import Pull
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import wait_until

Seen = list[tuple[int, str, bytes]]


def test_events_reach_a_subscriber_in_order_until_it_unsubscribes(broker: JetStreamBroker) -> None:
    seen: Seen = []
    publish_event(broker, "transforms.status.early", b"0", confirm=True)
    started = threading.Event()
    subscription = subscribe_events(
        broker,
        "transforms.status.>",
        lambda *event: seen.append(event),
        on_start=lambda sequence: started.set() if sequence == 1 else None,
    )
    assert started.wait(30)
    for number in range(1, 300):
        publish_event(broker, "transforms.status.job.7", b"%d" % number)
    wait_until(lambda: len(seen) == 299)
    assert [data for _, _, data in seen] == [b"%d" % number for number in range(1, 300)]
    assert seen[0][:2] == (2, "transforms.status.job.7")
    subscription.close()
    time.sleep(0.1)
    publish_event(broker, "transforms.status.job.7", b"unheard", confirm=True)
    time.sleep(0.2)
    assert len(seen) == 299


def test_a_burst_larger_than_what_is_asked_for_at_once_needs_no_look_at_the_clock(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pull, "_tick", lambda _: None)
    for number in range(1, 601):
        publish_event(broker, "transforms.status.a", b"%d" % number, confirm=True)
    seen: Seen = []
    subscription = subscribe_events(
        broker, "transforms.status.a", lambda *event: seen.append(event), start_sequence=1
    )
    wait_until(lambda: len(seen) == 600, 30)
    subscription.close()


def test_a_subscriber_resumes_at_a_sequence_and_survives_a_server_restart(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    for number in range(1, 6):
        publish_event(broker, "transforms.status.a", b"%d" % number, confirm=True)
    seen: Seen = []
    subscription = subscribe_events(
        broker, "transforms.status.a", lambda *event: seen.append(event), start_sequence=3
    )
    wait_until(lambda: len(seen) == 3, 30)
    server.kill()
    server.start()
    wait_until(lambda: _published(broker), 30)
    wait_until(lambda: len(seen) == 4, 30)
    assert [sequence for sequence, _, _ in seen] == [3, 4, 5, 6]
    subscription.close()


def test_what_was_on_its_way_when_the_connection_broke_comes_again(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Msg] = []
    take = Pull._receive

    async def lose_one(pull: Pull, msg: Msg) -> None:
        if msg.subject == "transforms.status.a" and not lost:
            lost.append(msg)
        else:
            await take(pull, msg)

    monkeypatch.setattr(Pull, "_receive", lose_one)
    seen: Seen = []
    subscription = subscribe_events(
        broker, "transforms.status.a", lambda *event: seen.append(event), start_sequence=1
    )
    publish_event(broker, "transforms.status.a", b"1", confirm=True)
    wait_until(lambda: lost, 30)
    session = broker.connection.session()
    loop_thread().loop.call_soon_threadsafe(session._client._transport.close)  # type: ignore[union-attr]
    wait_until(lambda: [data for _, _, data in seen] == [b"1"], 30)
    subscription.close()


def _published(broker: JetStreamBroker) -> bool:
    try:
        publish_event(broker, "transforms.status.a", b"after", confirm=True)
    except Exception:  # noqa: BLE001 (whatever it is, it is tried again)
        return False
    return True


def test_an_unconfirmed_event_never_waits_nor_raises_while_the_server_is_away(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    publish_event(broker, "transforms.status.a", b"1", confirm=True)
    server.kill()
    begin = time.monotonic()
    publish_event(broker, "transforms.status.a", b"lost")
    assert time.monotonic() - begin < 1  # a confirmed one waits for longer
