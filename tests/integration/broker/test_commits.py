"""Messages that are stored together or not at all, when the server did not get all of them at first."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from brokers import BrokerOptions, JetStreamBroker, NotUniqueError
from brokers.jetstream import publisher
from brokers.jetstream.batch import publish_batch
from brokers.jetstream.connection import loop_thread
from brokers.jetstream.publisher import Publisher, may_take_it_later
from tests.integration.broker.workers import QUEUES, message, take


@pytest.fixture
def first_part_is_lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Once; grows by the numbers of all parts that were to be sent."""
    seen: list[str] = []
    publish = Client.publish

    async def lose_the_first(self: Client, *args: Any, **options: Any) -> None:
        headers = options.get("headers") or (args[3] if len(args) > 3 else None) or {}
        seen.append(headers.get("Nats-Batch-Sequence", ""))
        if seen[-1] != "1" or seen.count("1") > 1:
            await publish(self, *args, **options)

    monkeypatch.setattr(Client, "publish", lose_the_first)
    return seen


def test_a_unique_message_whose_lock_did_not_arrive_is_sent_again(
    broker: JetStreamBroker, first_part_is_lost: list[str]
) -> None:
    broker.enqueue(message("work", unique_key="k"))
    assert [number for number in first_part_is_lost if number] == ["1", "2", "1", "2"]
    assert broker.get_queue_message_counts("quick") == (1, 0, 0)
    with pytest.raises(NotUniqueError):
        broker.enqueue(message("work", unique_key="k"))


@pytest.fixture
def first_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Once; set when it came. Nothing is sent again before `send_again`."""
    lost = threading.Event()
    answered = Publisher._answered

    async def lose(self: Publisher, msg: Msg) -> None:
        if lost.is_set():
            await answered(self, msg)
        lost.set()

    monkeypatch.setattr(Publisher, "_answered", lose)
    monkeypatch.setattr(publisher, "_RESEND_SECONDS", 3600.0)
    return lost


def send_again(broker: JetStreamBroker) -> None:
    loop_thread().loop.call_soon_threadsafe(broker.connection.session().publisher._send_all_again)


def nothing(_: JetStreamBroker) -> None:
    """The message waits, and its key is its own."""


def done(other: JetStreamBroker) -> None:
    consumer, found = take(other)
    consumer.ack(found)
    other.join("quick", timeout=30_000)


def done_and_the_key_taken(other: JetStreamBroker) -> None:
    done(other)
    other.enqueue(message("work", "another", unique_key="k"))


@pytest.mark.parametrize(("meanwhile", "left"), [(nothing, 1), (done, 0), (done_and_the_key_taken, 1)])
def test_a_unique_message_whose_answer_was_lost_counts_as_stored_whatever_became_of_it(
    options: BrokerOptions,
    first_answer_is_lost: threading.Event,
    meanwhile: Callable[[JetStreamBroker], None],
    left: int,
) -> None:
    ours = JetStreamBroker(dataclasses.replace(options, publish_timeout_seconds=60.0), QUEUES)
    other = JetStreamBroker(options, QUEUES)
    sent = message("work", unique_key="k")
    try:
        with ThreadPoolExecutor(1) as producer:
            enqueued = producer.submit(ours.enqueue, sent)
            assert first_answer_is_lost.wait(40)
            meanwhile(other)
            send_again(ours)
            assert enqueued.result(40).message_id == sent.message_id
        assert other.get_queue_message_counts("quick") == (left, 0, 0)
        if not left:
            other.enqueue(message("work", "next", unique_key="k"))
    finally:
        ours.close()
        other.close()


def test_a_batch_whose_first_message_did_not_arrive_is_sent_again(
    broker: JetStreamBroker, first_part_is_lost: list[str]
) -> None:
    parts = [("transforms.ready.quick", b"", {"Nats-Msg-Id": name}) for name in ("a", "b")]
    broker.connection.run(publish_batch(broker.connection.session(), parts))
    assert first_part_is_lost.count("1") == 2
    assert broker.get_queue_message_counts("quick") == (2, 0, 0)


@pytest.mark.parametrize(
    ("code", "err_code", "later"),
    [
        (503, 10008, True),  # no leader
        (409, 10158, True),  # being replicated
        (400, 10176, True),  # incomplete
        (429, 10210, True),  # too many batches
        (400, 10071, False),  # wrong last sequence
        (400, 10201, False),  # stored before
        (400, 10002, False),  # no room
    ],
)
def test_only_what_the_server_may_take_later_is_sent_again(code: int, err_code: int, later: bool) -> None:
    assert may_take_it_later(nats.js.errors.APIError(code=code, err_code=err_code)) is later
