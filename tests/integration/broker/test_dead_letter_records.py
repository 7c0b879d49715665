"""Listing dead letters, and what is left of one that was discarded, replayed, or expired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dramatiq.errors import DecodeError

from brokers import (
    DeadLetterNotFoundError,
    DeadReason,
    JetStreamBroker,
    PublishRefusedError,
    dead_letter,
    inspect,
    topology,
)
from brokers.jetstream import dead_records
from brokers.jetstream.message import Delivery, JetStreamMessage
from brokers.jetstream.topology import dead_subject
from tests.integration.broker.letters import QUICK, bury, take_all
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until


def test_a_discarded_letter_leaves_who_discarded_it_and_why(broker: JetStreamBroker) -> None:
    letter = dead_letter.get(broker, bury(broker, actor="wörk.*"))
    ended = dead_letter.discard(broker, letter.id, reason="a test\nrun, überholt", by="Anna")
    assert dead_letter.list_ended(broker) == [ended]
    assert ended is not None
    assert (ended.id, ended.outcome, ended.by, ended.why) == (
        letter.id, "discarded", "Anna", "a test\nrun, überholt",
    )  # fmt: skip
    assert (ended.queue, ended.reason, ended.actor, ended.message_id, ended.error_class) == (
        "quick", "permanent-error", "wörk.*", letter.message_id, "ValueError",
    )  # fmt: skip
    assert ended.dead_at == letter.dead_at
    assert dead_letter.list_dead(broker) == []
    assert dead_letter.discard(broker, letter.id, reason="again", by="Ben") == ended
    assert dead_letter.discard(broker, 999) is None


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


def test_a_letter_knows_when_it_will_expire(broker: JetStreamBroker) -> None:
    letter = bury(broker)
    (listed,) = dead_letter.list_dead(broker)
    got = dead_letter.get(broker, letter)
    assert listed.expires_at is not None
    assert got.expires_at is not None
    days = (listed.expires_at - listed.dead_at).total_seconds() / 86_400
    assert days == pytest.approx(30, abs=0.01)
    assert abs((got.expires_at - listed.expires_at).total_seconds()) < 0.001


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
    with pytest.raises(PublishRefusedError, match="apply the streams' configuration again"):
        dead_letter.replay(broker, 1)
    topology.apply(options, QUEUES)
    dead_letter.replay(broker, 1)
    assert [taken.args for taken in take_all(broker)] == [()]
    broker.close()


def test_a_letter_written_again_after_its_replay_neither_comes_back_nor_reopens_its_record(
    broker: JetStreamBroker,
) -> None:
    sent = message("work")
    delivery = Delivery(QUICK, reply="", sequence=1, deliveries=1, data=sent.encode(), headers={})
    held = JetStreamMessage(sent, delivery)
    headers = dead_letter.dead_headers(delivery, held, DeadReason.REJECTED, None)
    letter = bury(broker, headers=headers)
    dead_letter.replay(broker, letter)
    assert bury(broker, headers=headers) == letter
    assert dead_letter.list_dead(broker) == []
    assert [end.outcome for end in dead_letter.list_ended(broker)] == ["replayed"]
    with pytest.raises(DeadLetterNotFoundError, match="replayed as"):
        dead_letter.get(broker, letter)


def test_letters_are_listed_by_reason_and_actor_page_by_page(broker: JetStreamBroker) -> None:
    for number in range(1, 31):
        reason = DeadReason.CRASH_LOOP if number % 3 == 0 else DeadReason.REJECTED
        bury(broker, actor=f"actor{number % 2}", reason=reason, sequence=number)
    wanted: dict[str, Any] = {"reason": "crash-loop", "actor": "actor1"}
    found = dead_letter.list_dead(broker, 3, **wanted)
    found += dead_letter.list_dead(broker, 3, **wanted, before=found[-1].id)
    assert [letter.id for letter in found] == [27, 21, 15, 9, 3]
    assert dead_letter.list_dead(broker, reason="expired") == []
    with pytest.raises(ValueError, match="either ids or at least one"):
        dead_letter.replay_many(broker)


def test_ended_letters_are_listed_by_outcome_page_by_page(broker: JetStreamBroker) -> None:
    for number in range(1, 13):
        letter = bury(broker, sequence=number)
        if number % 2:
            dead_letter.discard(broker, letter, by="Anna")
        elif number % 4:
            dead_letter.replay(broker, letter)
    first = dead_letter.list_ended(broker, 4, outcome="discarded")
    rest = dead_letter.list_ended(broker, 4, outcome="discarded", before=first[-1].record)
    assert [ended.id for ended in [*first, *rest]] == [11, 9, 7, 5, 3, 1]
    assert [ended.id for ended in dead_letter.list_ended(broker, outcome="replayed")] == [10, 6, 2]
    assert dead_letter.list_ended(broker, queue="other") == []
    assert inspect.depths(broker)[0].dead == 3


def test_an_undecodable_letter_can_be_discarded_and_is_named_in_its_record(broker: JetStreamBroker) -> None:
    delivery = Delivery(QUICK, reply="", sequence=1, deliveries=1, data=b"\xff", headers={})
    error = DecodeError("no", b"\xff", None)  # type: ignore[no-untyped-call]  # Dramatiq's
    headers = dead_letter.dead_headers(delivery, None, DeadReason.UNDECODABLE, error)
    letter = bury(broker, payload=b"\xff", headers=headers)
    ended = dead_letter.discard(broker, letter, by="Anna")
    assert ended is not None
    assert (ended.reason, ended.actor, ended.message_id) == ("undecodable", None, None)
