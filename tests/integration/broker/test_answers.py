"""How the server hears what became of messages: each answer once, a few of them with a confirmation."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from brokers import JetStreamBroker
from brokers.jetstream import inspect
from tests.integration.broker.workers import StartWorker, declare, message, wait_until


async def _overheard(broker: JetStreamBroker, heard: list[Any]) -> None:
    async def note(msg: Any) -> None:
        heard.append(msg)

    client = await broker.connection.session().client()
    await client.subscribe("$JS.ACK.>", cb=note)
    await client.flush()


def test_of_many_acks_in_a_moment_a_few_ask_for_a_confirmation_and_all_are_confirmed(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    heard: list[Any] = []
    ended = threading.Semaphore(0)
    actor = declare(broker, lambda _: ended.release(), actor_name="note")
    broker.connection.run(_overheard(broker, heard))
    start_worker(threads=1)
    began = time.monotonic()
    for number in range(200):  # each is acknowledged on its own
        actor.send(number)
        assert ended.acquire(timeout=30)
    wait_until(lambda: inspect.is_empty(broker, broker.spec("quick")))
    answers = broker.running().holdings.answers
    wait_until(lambda: not answers._outstanding(), 30, "every ack is confirmed")
    seconds = time.monotonic() - began
    asked = [msg for msg in heard if msg.reply]
    # By sequence in the stream: one that a busy machine made wait for too long was delivered again.
    assert len({msg.subject.split(".")[5] for msg in heard}) == 200
    assert 1 <= len(asked) <= 2 + 12 * seconds


def test_what_is_given_back_amid_acks_is_given_back_once_and_confirmed_at_once(
    broker: JetStreamBroker,
) -> None:
    heard: list[Any] = []
    broker.connection.run(_overheard(broker, heard))
    broker.enqueue_many(message("work", number) for number in range(3))
    consumer = broker.consume("quick", prefetch=3, timeout=2000)
    taken: list[Any] = [next(consumer) for _ in range(3)]
    answers = broker.running().holdings.answers
    for one in (taken[0], taken[1]):
        consumer.ack(one)
        wait_until(lambda: any(m.data == b"+ACK" for m in heard))
    consumer.requeue([taken[2]])
    wait_until(lambda: any(m.data == b"-NAK" for m in heard))
    wait_until(lambda: not answers._outstanding(), 30, "every answer is confirmed")
    said = Counter(bytes(msg.data) for msg in heard if msg.data != b"+WPI")
    assert said[b"-NAK"] == 1
