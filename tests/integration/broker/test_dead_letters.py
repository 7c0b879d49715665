"""Dead letters that people replay: each is sent once, whoever replays it and whatever dies meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from brokers import (
    BrokerOptions,
    JetStreamBroker,
    ReplayReport,
    dead_letter,
    inspect,
    topology,
)
from brokers.jetstream import browse, dead_records, replaying
from brokers.jetstream.topology import replayed_subject, started_subject
from tests.integration.broker.letters import QUICK, bury, take_all
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, wait_until


def marks(broker: JetStreamBroker) -> list[browse.Stored]:
    """The marks of replays in the queue's stream, oldest first."""
    session, found = broker.connection.session(), list[browse.Stored]()
    subject = replayed_subject(broker.options, "quick", "any").rsplit(".", 1)[0] + ".*"
    sequence = 1
    while (
        mark := broker.connection.run(browse.one(session, QUICK.stream, seq=sequence, next_by_subj=subject))
    ) is not None:
        found.append(mark)
        sequence = mark.sequence + 1
    return found


@pytest.fixture
def brokers(options: BrokerOptions) -> Iterator[list[JetStreamBroker]]:
    made = [JetStreamBroker(options, QUEUES) for _ in range(2)]
    yield made
    for broker in made:
        broker.close()


def test_two_operators_who_replay_the_same_letters_at_once_send_each_of_them_once(
    broker: JetStreamBroker, brokers: list[JetStreamBroker]
) -> None:
    letters = [bury(broker, sequence=number) for number in range(1, 81)]
    reports = [ReplayReport(), ReplayReport()]
    start = threading.Barrier(2)

    def operate(number: int) -> None:
        start.wait()
        reports[number] = dead_letter.replay_many(
            brokers[number], queue="quick", per_second=None, by=f"operator {number}"
        )

    threads = [threading.Thread(target=operate, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    replayed = [letter for report in reports for letter in report.replayed]
    assert sorted(replayed) == letters
    assert [(report.failed, report.stopped) for report in reports] == [({}, None)] * 2
    sent = [taken.message_id for taken in take_all(broker)]
    assert sorted(sent) == sorted(id_ for report in reports for id_ in report.replayed.values())
    assert dead_letter.list_dead(broker) == []
    ended = dead_letter.list_ended(broker, 200)
    assert sorted((end.id, end.outcome) for end in ended) == [(letter, "replayed") for letter in letters]


def _replay_and_die(url: str, function: str, calls: int) -> None:
    """Replay everything, and be killed as soon as `function` has returned `calls` times."""
    module: Any = {"end_seen": dead_records}.get(function, replaying)
    original, left = getattr(module, function), [calls]

    async def fatal(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, function, fatal)
    broker = JetStreamBroker(make_options(url, queue_max_age_seconds=2.0), QUEUES)
    dead_letter.replay_many(broker, queue="quick", per_second=None, by="the killed one")


def replay_and_be_killed(server: NatsServer, function: str, calls: int) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_replay_and_die, args=(server.url, function, calls)
    )
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture
def short_lived(server: NatsServer) -> Iterator[JetStreamBroker]:
    """A broker whose queues keep messages and ids for two seconds only."""
    options = make_options(server.url, queue_max_age_seconds=2.0)
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    yield broker
    broker.close()


@pytest.mark.parametrize(("function", "calls"), [("_store", 1), ("end_seen", 3), ("_clear", 3)])
def test_a_replay_killed_half_way_is_finished_later_without_sending_anything_twice(
    server: NatsServer, short_lived: JetStreamBroker, function: str, calls: int
) -> None:
    letters = [bury(short_lived, sequence=number) for number in range(1, 26)]
    replay_and_be_killed(server, function, calls)
    sent = [taken.message_id for taken in take_all(short_lived)]
    assert len(sent) == 20  # as many as go at once
    # Long after: the stream has forgotten the message's id, and what it keeps for its age only.
    wait_until(lambda: all(mark.headers.get("Nats-TTL") == "never" for mark in marks(short_lived)))
    report = dead_letter.replay_many(short_lived, letters, per_second=None)
    assert list(report.replayed) == letters[20:]
    assert sorted(report.skipped) == letters[:20]
    sent += [taken.message_id for taken in take_all(short_lived)]
    assert len(set(sent)) == len(sent) == 25
    assert dead_letter.list_dead(short_lived) == []
    assert {end.successor_id for end in dead_letter.list_ended(short_lived, 100)} == set(sent)
    wait_until(lambda: not marks(short_lived), what="no mark outlives its letter for long")


def forget_ids(broker: JetStreamBroker, queue: str = "quick") -> None:
    """Wait until the queue's stream takes message ids again that were used before this call."""
    session, headers = broker.connection.session(), {"Nats-Msg-Id": "probe"}
    subject = started_subject(broker.options, queue, "probe", 0)

    def publish() -> int:
        return broker.connection.run(session.publish(subject, b"", headers))

    first = publish()
    wait_until(lambda: publish() != first)


def test_an_operator_who_read_a_letter_long_before_another_replayed_it_sends_nothing(
    broker: JetStreamBroker, brokers: list[JetStreamBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = broker.connection.session()
    config = broker.connection.run(session.api(f"STREAM.INFO.{QUICK.stream}"))["config"]
    config["duplicate_window"] = 200_000_000  # nanoseconds
    broker.connection.run(session.api(f"STREAM.UPDATE.{QUICK.stream}", config))
    letter, successor, sent = bury(broker), replaying.successor, list[str]()

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(replaying, "successor", successor)
        sent.append(dead_letter.replay(brokers[0], letter, by="the quick one").message_id)
        forget_ids(broker)
        return successor(*args)

    monkeypatch.setattr(replaying, "successor", overtaken)
    report = dead_letter.replay_many(brokers[1], [letter], by="the slow one")
    assert (report.replayed, list(report.skipped)) == ({}, [letter])
    assert [taken.message_id for taken in take_all(broker)] == sent
    assert [end.by for end in dead_letter.list_ended(broker)] == ["the quick one"]


def test_a_discard_after_half_a_replay_says_that_the_letter_was_replayed(
    server: NatsServer, broker: JetStreamBroker
) -> None:
    letter = bury(broker)
    replay_and_be_killed(server, "_store", 1)
    ended = dead_letter.discard(broker, letter, reason="no use", by="Anna")
    (taken,) = take_all(broker)
    assert ended is not None
    assert (ended.outcome, ended.successor_id) == ("replayed", taken.message_id)
    assert dead_letter.list_dead(broker) == []


def test_a_replay_wins_over_a_discard_at_the_same_moment(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = bury(broker)
    store = replaying._store

    async def discard_meanwhile(*args: Any) -> Any:
        session = broker.connection.session()
        found = await replaying.find(session, letter)
        await dead_records.end(session, found, dead_letter.Outcome.DISCARDED, by="Ben", why="")
        return await store(*args)

    monkeypatch.setattr(replaying, "_store", discard_meanwhile)
    sent = dead_letter.replay(broker, letter, by="Anna")
    (ended,) = dead_letter.list_ended(broker)
    assert (ended.outcome, ended.by, ended.successor_id) == ("replayed", "Anna", sent.message_id)


def test_a_run_during_which_the_server_goes_away_stops_and_is_repeated_without_a_double(
    server: NatsServer, broker: JetStreamBroker
) -> None:
    letters = [bury(broker, sequence=number) for number in range(1, 11)]

    def fail_after_four(now: ReplayReport) -> None:
        if len(now.replayed) == 4:
            server.kill()

    report = dead_letter.replay_many(broker, letters, per_second=19, on_progress=fail_after_four)
    assert len(report.replayed) == 4
    assert "the NATS server does not answer" in str(report.stopped)
    server.start()
    wait_until(lambda: inspect.ping(broker))
    second = dead_letter.replay_many(broker, letters, per_second=None)
    assert list(second.replayed) == letters[4:]
    assert len({taken.message_id for taken in take_all(broker)}) == 10
