"""A unique key and its holder through lost answers, long waits and forgotten locks, on all our brokers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import nats.js.errors
import pytest
from dramatiq.errors import Retry
from dramatiq.message import Message, generate_unique_id

from brokers import JetStreamBroker, NotUniqueError, control
from brokers.jetstream.stored import all_headers, stored_payload
from tests.contract.broker.harness import StartWorker, counts, declare, only_ours, race, take
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def unique(*args: Any, **options: Any) -> Message[Any]:
    return message("work", *args, queue="default", unique_key="k", **options)


def locks(broker: JetStreamBroker) -> list[dict[str, Any]]:
    """All that lies on the key's subject."""
    session, body = broker.connection.session(), {"next_by_subj": "transforms.unique.default.k"}
    found: list[dict[str, Any]] = []
    with contextlib.suppress(nats.js.errors.NotFoundError):
        while True:
            after = {"seq": found[-1]["seq"] + 1 if found else 1}
            answer = broker.connection.run(session.api("STREAM.MSG.GET.DEFAULT", body | after))
            found.append(answer["message"])
    return found


def seconds(stored: dict[str, Any]) -> float:
    return float(json.loads(stored_payload(stored))["seconds"])


def put_lock(broker: JetStreamBroker, note: bytes) -> None:
    session = broker.connection.session()
    work = session.publish("transforms.unique.default.k", note, {"Nats-TTL": "never"})
    broker.connection.run(work)


@pytest.mark.parametrize("options", [{}, {"unique_key": "k"}])
@pytest.mark.parametrize(
    ("delay", "end"),
    [(None, "flushed"), (None, "done"), (60_000, "flushed"), (60_000, "cancelled"), (60_000, "done")],
)
def test_a_message_id_counts_once_whatever_became_of_the_message(
    broker: JetStreamBroker, options: dict[str, Any], delay: int | None, end: str
) -> None:
    sent = broker.enqueue(message("work", queue="default", **options), delay=delay)
    if end == "flushed":
        broker.flush("default")
    elif end == "cancelled":
        control.cancel(broker, "default", sent.message_id)
    else:
        if delay is not None:
            control.run_now(broker, "default", sent.message_id)
        consumer, taken = take(broker)
        consumer.ack(taken)
        broker.join("default", timeout=5000)
    assert broker.enqueue(sent, delay=delay).message_id == sent.message_id
    assert counts(broker) == (0, 0, 0)
    broker.enqueue(sent.copy(message_id=generate_unique_id()), delay=delay)  # the key is free
    wait_until(lambda: counts(broker) == ((0, 1, 0) if delay else (1, 0, 0)))  # a cluster counts a bit later


def test_of_many_who_find_a_lock_past_its_time_one_gets_in(broker: JetStreamBroker) -> None:
    put_lock(broker, b'{"message_id": "gone", "seconds": -1}')
    stored, refused = race(broker, unique)
    assert len(stored) == 1
    assert refused == stored * 19
    assert counts(broker) == (1, 0, 0)


@pytest.mark.parametrize(
    "note", [b'{"message_id": "old"}', b'{"message_id": "old", "seconds": "soon"}', b"[]", b"?", b""]
)
def test_a_lock_that_names_no_time_is_kept(broker: JetStreamBroker, note: bytes) -> None:
    put_lock(broker, note)
    with pytest.raises(NotUniqueError, match="old" if b"old" in note else "unknown"):
        broker.enqueue(unique())


def test_the_lock_of_a_message_says_how_long_that_can_live(broker: JetStreamBroker) -> None:
    broker.enqueue(unique(), delay=3_600_000)
    (found,) = locks(broker)
    assert seconds(found) == 3600 + broker.options.queue_max_age_seconds + 86_400
    assert all_headers(found)["Nats-TTL"] == "never"  # or the server would end it with the stream's age


def test_a_key_is_free_at_once_when_its_holder_goes_while_another_asks(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = broker.enqueue(unique(), delay=3_600_000)
    session = broker.connection.session()
    call = session.api

    async def released_before_the_look(name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if body and "last_by_subj" in body:
            monkeypatch.setattr(session, "api", call)
            await call("STREAM.PURGE.DEFAULT", {"filter": "transforms.unique.default.k"})
        return await call(name, body)

    monkeypatch.setattr(session, "api", released_before_the_look)
    second = broker.enqueue(unique())
    assert second.message_id != first.message_id
    wait_until(lambda: counts(broker) == (1, 1, 0))


def test_a_retry_writes_its_lock_anew_and_gives_the_key_back_at_its_end(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    runs: list[int] = []

    def fail_once() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise Retry("once more", delay=3_600_000)

    declare(broker, fail_once, actor_name="work")
    sent = broker.enqueue(unique())
    (first,) = locks(broker)
    start_worker()
    wait_until(lambda: counts(broker) == (0, 1, 0))
    (second,) = locks(broker)
    assert second["seq"] > first["seq"]
    assert seconds(second) == seconds(first) + 3600
    control.run_now(broker, "default", sent.message_id)
    wait_until(lambda: not locks(broker))
    assert runs == [0, 1]


def test_a_retry_leaves_the_lock_of_another_message_alone(broker: JetStreamBroker) -> None:
    put_lock(broker, b'{"message_id": "other", "seconds": 60}')
    (before,) = locks(broker)
    broker.enqueue(unique(retries=1))
    assert locks(broker) == [before]
