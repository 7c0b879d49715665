"""Rare turns of events, each of which once lost a message, held it for ever or ran the wrong one."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dramatiq.errors import ConnectionFailed
from dramatiq.middleware import Middleware, SkipMessage

from brokers import BrokerOptions, JetStreamBroker, dead_letter, inspect, recurring, topology
from brokers.jetstream import heartbeat, overdue, unique
from brokers.jetstream.overdue import Overdue
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from tests.integration.broker.workers import QUEUES, StartWorker, declare, message, take, wait_until


def finish_one(broker: JetStreamBroker) -> str:
    consumer, found = take(broker)
    consumer.ack(found)
    broker.join("quick", timeout=3000)
    return found.message_id


def delete_stream(broker: JetStreamBroker, name: str) -> None:
    broker.connection.run(broker.connection.session().api(f"STREAM.DELETE.{name}"))


def test_messages_of_a_stream_that_was_made_anew_are_run_though_their_sequences_were_seen(
    broker: JetStreamBroker, options: BrokerOptions
) -> None:
    broker.enqueue(message("work", "before"))
    finish_one(broker)
    delete_stream(broker, "QUICK")
    topology.apply(options, QUEUES)
    after = broker.enqueue(message("work", "after"))
    assert finish_one(broker) == after.message_id


def test_a_unique_key_of_the_wrong_type_is_a_dead_letter_and_the_next_message_runs(
    broker: JetStreamBroker,
) -> None:
    session = broker.connection.session()
    foreign = message("work", "foreign", unique_key=7).encode()
    broker.connection.run(session.publish("transforms.ready.quick", foreign, {}))
    following = broker.enqueue(message("work", "following"))
    assert finish_one(broker) == following.message_id
    (dead,) = dead_letter.list_dead(broker)
    assert dead.reason == "undecodable"


def test_a_message_ends_although_its_lock_could_not_be_released_at_once(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.enqueue(message("work", "first", unique_key="one"))
    release, failures = unique.release, [ConnectionFailed("away"), ValueError("a defect")]  # type: ignore[no-untyped-call]

    async def fails_twice(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        await release(*arguments)

    monkeypatch.setattr(unique, "release", fails_twice)
    monkeypatch.setattr(heartbeat, "_PAUSE_SECONDS", 0.1)
    consumer, found = take(broker)
    consumer.ack(found)
    broker.join("quick", timeout=10_000)
    broker.enqueue(message("work", "second", unique_key="one"))
    finish_one(broker)


class Skips(Middleware):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def after_skip_message(self, broker: Any, message: Any) -> None:
        self.seen.append(message.message_id)


def test_what_was_given_back_before_it_began_is_not_reported_as_skipped(broker: JetStreamBroker) -> None:
    skips = Skips()
    broker.add_middleware(skips)
    broker.enqueue(message("work", "shared"))
    consumer, found = take(broker)
    assert found.delivery.claim()  # somebody gives it back while a thread is about to start it
    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", found)
    broker.emit_after("skip_message", found)
    consumer.ack(found)
    assert skips.seen == []
    assert finish_one(broker) == found.message_id


def test_a_worker_that_was_struck_off_the_roster_signs_again(broker: JetStreamBroker) -> None:
    session, spec = broker.connection.session(), broker.specs["quick"]
    presence = Presence(session, spec, list)
    broker.connection.run(presence.show())
    broker.connection.run(presence.strike_off(presence.id))  # taken for gone by somebody
    patrol = Patrol(session, spec, presence)
    broker.connection.run(patrol.once())
    stranger = Presence(session, spec, list)
    roll = broker.connection.run(stranger.call_roll())
    assert (roll.gone, roll.silent) == (set(), set())
    subject = topology.roster_subject(broker.options, "quick", presence.id)
    info = broker.connection.run(session.api("STREAM.INFO.QUICK", {"subjects_filter": subject}))
    assert info["state"]["subjects"] == {subject: 1}
    broker.connection.run(presence.leave())
    broker.connection.run(stranger.leave())


def test_a_queue_takes_nothing_while_other_queues_keep_all_threads_busy_for_long(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    over = threading.Event()
    declare(broker, lambda: over.wait(20), actor_name="long")
    ran: list[float] = []
    declare(broker, lambda: ran.append(time.monotonic()), queue_name="other", actor_name="short")
    start_worker(threads=1)
    broker.enqueue(message("long"))
    wait_until(lambda: inspect.depths(broker)[0].in_flight == 1)
    broker.enqueue(message("short", queue="other"))
    held = broker.running().holdings.count
    wait_until(lambda: held("other"))
    wait_until(lambda: not held("other"))  # for another worker; and it does not travel to and fro
    time.sleep(1.5)
    assert not held("other")
    over.set()
    wait_until(lambda: ran)


def test_a_renewed_firing_of_a_schedule_keeps_its_message_id(broker: JetStreamBroker) -> None:
    recurring.schedule_every(broker, "tick", message("work", "tick"), timedelta(seconds=1))
    consumer, found = take(broker, 5)
    recurring.unschedule(broker, "quick", "tick")
    session, spec = broker.connection.session(), broker.specs["quick"]
    patrol = Patrol(session, spec, Presence(session, spec, list))

    async def renew() -> None:
        stored = await patrol._next(found.delivery.sequence)
        assert stored is not None
        await patrol._renew(stored)

    broker.connection.run(renew())
    consumer.ack(found)
    assert finish_one(broker) == found.message_id


def test_an_overdue_message_is_due_now(broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = broker.enqueue(message("work", "late"), delay=600_000)
    walk = Overdue(broker.connection.session(), broker.specs["quick"])
    assert broker.connection.run(walk.nudge(datetime.now(UTC))) == 0
    monkeypatch.setattr(overdue, "OVERDUE", -timedelta(minutes=20))  # as if its time had passed
    monkeypatch.setattr(overdue, "_LOOKED_AT", 1)  # or it would seem so again and again
    assert broker.connection.run(walk.nudge(datetime.now(UTC))) == 1
    assert finish_one(broker) == sent.message_id
