"""Listing dead letters, and what is left of one that was discarded, replayed, or expired."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brokers import (
    DeadLetterNotFoundError,
    JetStreamBroker,
    PublishRefusedError,
    TopologyError,
    dead_letter,
    topology,
)
from brokers.jetstream import dead_records
from brokers.jetstream.topology import dead_subject
from tests.integration.broker.letters import bury, take_all
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until


@pytest.fixture
def ageing(server: NatsServer) -> Callable[..., JetStreamBroker]:
    """A broker whose dead letters and records live for so many seconds only."""

    def make(letters: float, records: float) -> JetStreamBroker:
        options = make_options(
            server.url, dead_letter_max_age_seconds=letters, dead_record_max_age_seconds=records
        )
        topology.apply(options, QUEUES)
        return JetStreamBroker(options, QUEUES)

    return make


def test_an_expired_letter_leaves_a_record_of_the_servers_own(
    ageing: Callable[..., JetStreamBroker],
) -> None:
    broker = ageing(letters=1.0, records=60.0)
    message_id = dead_letter.get(broker, bury(broker)).message_id
    (ended,) = wait_until(lambda: dead_letter.list_ended(broker))
    assert dead_letter.list_dead(broker) == []
    assert (ended.outcome, ended.queue, ended.reason) == ("expired", "quick", "permanent-error")
    assert (ended.id, ended.actor, ended.message_id, ended.by) == (1, "work", message_id, "")
    with pytest.raises(DeadLetterNotFoundError, match="expired"):
        dead_letter.replay(broker, 1)
    broker.close()


def test_a_record_ends_after_its_time_and_is_not_taken_for_an_expired_letter(
    ageing: Callable[..., JetStreamBroker],
) -> None:
    broker = ageing(letters=1.0, records=2.0)
    dead_letter.discard(broker, bury(broker), reason="no use", by="Anna")
    seen = set[str]()

    def none_left() -> bool:
        ended = dead_letter.list_ended(broker)
        seen.update(end.outcome for end in ended)
        return not ended

    wait_until(none_left)
    assert seen == {"discarded"}
    session = broker.connection.session()
    state = broker.connection.run(session.api(f"STREAM.INFO.{broker.options.dead_record_stream}"))["state"]
    assert state["messages"] == 0
    broker.close()


def test_a_letter_that_lives_longer_than_was_planned_is_not_called_expired(
    server: NatsServer, ageing: Callable[..., JetStreamBroker]
) -> None:
    broker = ageing(letters=1.0, records=60.0)
    letter = bury(broker)
    topology.apply(make_options(server.url, dead_letter_max_age_seconds=60.0), QUEUES)
    session = broker.connection.session()
    wait_until(lambda: broker.connection.run(dead_records.of_id(session, letter)))
    assert [found.id for found in dead_letter.list_dead(broker)] == [letter]
    assert dead_letter.list_ended(broker) == []
    dead_letter.discard(broker, letter, by="Anna")
    assert [end.outcome for end in dead_letter.list_ended(broker)] == ["discarded"]
    broker.close()


def test_letters_from_before_there_were_records_are_listed_replayed_and_discarded(
    broker: JetStreamBroker,
) -> None:
    session, subject = broker.connection.session(), dead_subject(broker.options, "quick")
    for _ in range(2):
        old = message("work", retries=4)
        headers = {"Dead-Reason": "rejected", "Dead-Message-Id": f'"{old.message_id}"'}
        broker.connection.run(session.publish(subject, old.encode(), headers))
    assert [letter.id for letter in dead_letter.list_dead(broker, queue="quick")] == [2, 1]
    sent = dead_letter.replay(broker, 1)
    dead_letter.discard(broker, 2, reason="no use", by="Anna")
    assert [taken.message_id for taken in take_all(broker)] == [sent.message_id]
    assert [(end.id, end.outcome) for end in dead_letter.list_ended(broker)] == [
        (2, "discarded"), (1, "replayed"),
    ]  # fmt: skip
    assert dead_letter.list_dead(broker) == []


def test_streams_of_the_release_before_are_updated_and_keep_their_dead_letters(server: NatsServer) -> None:
    options = make_options(server.url)
    broker = JetStreamBroker(options, QUEUES)
    session, sent = broker.connection.session(), message("work")
    for config in topology.stream_configs(options, QUEUES):
        if config.name != options.dead_record_stream:
            subjects = [subject for subject in config.subjects or [] if ".replayed." not in subject]
            old = config.evolve(subjects=subjects, allow_atomic=False).as_dict()
            broker.connection.run(session.api(f"STREAM.CREATE.{config.name}", old))
    headers = {"Dead-Reason": "rejected"}
    broker.connection.run(session.publish(dead_subject(options, "quick"), sent.encode(), headers))
    with pytest.raises(TopologyError, match=f"no stream {options.dead_record_stream}: topology.apply"):
        dead_letter.replay(broker, 1)
    (records,) = (c for c in topology.stream_configs(options, QUEUES) if c.name == options.dead_record_stream)
    broker.connection.run(session.api(f"STREAM.CREATE.{records.name}", records.as_dict()))
    with pytest.raises(PublishRefusedError, match="apply the streams' configuration again"):
        dead_letter.replay(broker, 1)
    topology.apply(options, QUEUES)
    dead_letter.replay(broker, 1)
    assert [taken.args for taken in take_all(broker)] == [()]
    broker.close()
