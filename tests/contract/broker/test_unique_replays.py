"""Replays of messages with a unique key or a deadline: a new message in every respect but its work."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from brokers import JetStreamBroker, NotReplayableError, NotUniqueError, dead_letter
from tests.contract.broker.harness import QUEUES, Run, counts, declare, only_ours
from tests.integration.broker import letters
from tests.integration.broker.workers import message

pytestmark = only_ours
SEQUENCES = itertools.count(3 * 10**9)  # of no real message: a letter of one origin is stored once


def bury(broker: JetStreamBroker, **options: Any) -> int:
    return letters.bury(broker, spec=QUEUES[0], sequence=next(SEQUENCES), **options)


def unique(key: str) -> Any:
    return message("work", queue="default", unique_key=key)


def test_a_letter_whose_key_is_held_stays_dead_until_the_holder_is_done(broker: JetStreamBroker) -> None:
    letter = bury(broker, unique_key="welcome:a")
    holder = broker.enqueue(unique("welcome:a"))
    with pytest.raises(NotUniqueError, match=f"message {holder.message_id} .*'welcome:a'") as refused:
        dead_letter.replay(broker, letter)
    assert refused.value.message_id == holder.message_id
    assert counts(broker) == (1, 0, 1)
    assert dead_letter.list_ended(broker) == []
    ended = letters.take_all(broker, "default")
    assert [taken.message_id for taken in ended] == [holder.message_id]


def test_a_replayed_message_holds_its_key_until_it_is_done(broker: JetStreamBroker, run: Run) -> None:
    sent = dead_letter.replay(broker, bury(broker, unique_key="welcome:b"))
    with pytest.raises(NotUniqueError) as refused:
        broker.enqueue(unique("welcome:b"))
    assert refused.value.message_id == sent.message_id
    ran: list[str] = []
    declare(broker, lambda: ran.append("once"), actor_name="work")
    run()
    broker.enqueue(unique("welcome:b"))
    run()
    assert ran == ["once", "once"]


def test_many_letters_of_one_key_are_replayed_once_and_the_others_reported(broker: JetStreamBroker) -> None:
    plain = [bury(broker), bury(broker)]
    first, second = bury(broker, unique_key="c"), bury(broker, unique_key="c")
    other, last = bury(broker, unique_key="d"), bury(broker)
    report = dead_letter.replay_many(broker, queue="default", per_second=None)
    assert list(report.replayed) == [*plain, first, other, last]
    assert list(report.failed) == [second]
    assert "unique key 'c' is not done yet" in report.failed[second]
    assert report.stopped is None
    assert [letter.id for letter in dead_letter.list_dead(broker)] == [second]
    taken = {sent.message_id for sent in letters.take_all(broker, "default")}
    assert taken == set(report.replayed.values())


def test_letters_with_and_without_keys_go_together_and_leave_no_marks(broker: JetStreamBroker) -> None:
    mixed = [bury(broker, unique_key="e"), bury(broker), bury(broker, unique_key="f"), bury(broker)]
    report = dead_letter.replay_many(broker, mixed, per_second=None)
    assert list(report.replayed) == mixed
    sent = {taken.message_id for taken in letters.take_all(broker, "default")}
    assert sent == set(report.replayed.values())
    session = broker.connection.session()
    stream = f"STREAM.MSG.GET.{QUEUES[0].stream}"
    for successor in sent:
        subject = f"transforms.replayed.default.{successor}"
        found = broker.connection.run(session.api(stream, {"last_by_subj": subject}))
        first = broker.connection.run(session.api(stream, {"seq": 1, "next_by_subj": subject}))
        assert first == found  # the mark that never expires is gone, the other is there


def test_a_repeated_replay_of_a_unique_message_is_told_that_it_was_replayed(broker: JetStreamBroker) -> None:
    letter = bury(broker, unique_key="g")
    sent = dead_letter.replay(broker, letter)
    report = dead_letter.replay_many(broker, [letter])
    assert f"replayed as message {sent.message_id}" in report.skipped[letter]


def test_a_key_that_is_no_text_cannot_be_replayed(broker: JetStreamBroker) -> None:
    letter = bury(broker, unique_key=7)
    with pytest.raises(NotReplayableError, match=rf"letter {letter} .*unique_key must be a text"):
        dead_letter.replay(broker, letter)
    assert counts(broker) == (0, 0, 1)


def test_a_deadline_that_has_passed_does_not_end_the_replay(broker: JetStreamBroker, run: Run) -> None:
    ran: list[str] = []
    declare(broker, lambda: ran.append("late"), actor_name="work")
    replayed = dead_letter.replay(broker, bury(broker, deadline=time.time() * 1000 - 1000))
    assert "deadline" not in replayed.options
    run()
    assert ran == ["late"]
    assert dead_letter.list_dead(broker) == []
