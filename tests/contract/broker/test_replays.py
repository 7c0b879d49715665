"""Listing, replaying and discarding dead letters, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from dramatiq.errors import DecodeError

from brokers import (
    DeadLetterNotFoundError,
    DeadReason,
    JetStreamBroker,
    NotReplayableError,
    ReplayLimitError,
    dead_letter,
)
from brokers.jetstream import burial
from brokers.jetstream.message import Delivery, JetStreamMessage
from tests.contract.broker.harness import QUEUES, counts, only_ours
from tests.integration.broker import letters
from tests.integration.broker.workers import message

pytestmark = only_ours
NEVER = 10**9  # no dead letter has this id


SEQUENCES = itertools.count(10**9)  # of no real message: a letter of one origin is stored once


def bury(broker: JetStreamBroker, **options: Any) -> int:
    return letters.bury(broker, spec=QUEUES[0], sequence=next(SEQUENCES), **options)


def take_all(broker: JetStreamBroker) -> list[JetStreamMessage]:
    return letters.take_all(broker, "default")


def test_a_repeated_replay_is_told_what_became_of_the_letter(broker: JetStreamBroker) -> None:
    letter = bury(broker)
    sent = dead_letter.replay(broker, letter, by="Anna", why="provider is back")
    with pytest.raises(DeadLetterNotFoundError, match=f"replayed as message {sent.message_id} by Anna"):
        dead_letter.replay(broker, letter)
    assert [taken.message_id for taken in take_all(broker)] == [sent.message_id]
    (ended,) = dead_letter.list_ended(broker)
    assert (ended.by, ended.why, ended.successor_id) == ("Anna", "provider is back", sent.message_id)


def test_many_letters_are_replayed_at_the_rate_asked_for_and_oldest_first(broker: JetStreamBroker) -> None:
    buried = [bury(broker) for number in range(1, 31)]
    progress: list[int] = []
    report = dead_letter.replay_many(
        broker, queue="default", per_second=40, on_progress=lambda now: progress.append(len(now.replayed))
    )
    assert list(report.replayed) == buried
    assert progress == [*range(4, 30, 4), 30]
    assert 0.9 * 28 / 40 <= report.seconds < 10 * 28 / 40


def test_what_cannot_be_replayed_is_reported_and_stays_dead(broker: JetStreamBroker) -> None:
    torn = bury(broker, reason=DeadReason.UNDECODABLE, payload=b"\xff")
    nameless = bury(
        broker, payload=message("x", queue="default").encode().replace(b'"work"', b"7"), actor="x"
    )
    lost = bury(broker, payload=message("work", queue="closed").encode())
    good = bury(broker)
    report = dead_letter.replay_many(broker, [torn, nameless, lost, good, NEVER], per_second=None)
    assert list(report.replayed) == [nameless, good]
    assert "is not a message" in report.failed[torn]
    assert "'closed' is not one of" in report.failed[lost]
    assert report.skipped == {NEVER: f"There is no dead letter {NEVER}."}
    assert [letter.id for letter in dead_letter.list_dead(broker)] == [lost, torn]
    with pytest.raises(NotReplayableError):
        dead_letter.replay(broker, torn)


def test_a_run_stops_when_too_many_letters_fail(broker: JetStreamBroker) -> None:
    for number in range(1, 31):
        bury(broker, payload=b"\xff" if number % 2 else None)
    report = dead_letter.replay_many(broker, queue="default", per_second=None, stop_on_failure_share=0.4)
    assert (len(report.failed), len(report.replayed)) == (10, 10)
    assert report.stopped == "50% of the letters failed"


def test_a_run_is_limited_and_cancelled_and_goes_on_where_it_ended(broker: JetStreamBroker) -> None:
    buried = [bury(broker) for number in range(1, 11)]
    first = dead_letter.replay_many(broker, actor="work", per_second=None, limit=3)
    assert (list(first.replayed), first.stopped) == (buried[:3], None)
    second = dead_letter.replay_many(
        broker, actor="work", per_second=19, on_progress=lambda now: len(now.replayed) < 4
    )
    assert (list(second.replayed), second.stopped) == (buried[3:7], "cancelled")
    third = dead_letter.replay_many(broker, actor="work", per_second=None)
    assert list(third.replayed) == buried[7:]


def test_a_message_that_dies_again_during_a_run_waits_for_the_next_one(broker: JetStreamBroker) -> None:
    bury(broker)
    report = dead_letter.replay_many(
        broker,
        queue="default",
        per_second=None,
        on_progress=lambda _: bury(broker) > 0,
    )
    assert len(report.replayed) == len(dead_letter.list_dead(broker)) == 1


def test_a_line_of_replays_ends_at_the_cap_unless_the_operator_raises_it(broker: JetStreamBroker) -> None:
    first = message("work", queue="default")
    payload, ids = first.encode(), [first.message_id]
    for depth in range(1, 4):
        letter = bury(broker, payload=payload)
        replayed = dead_letter.replay(broker, letter, max_replays=3)
        assert replayed.options["replay_of"] == {
            "dead_letter": letter, "message_id": ids[-1], "reason": "permanent-error",
            "root": ids[0], "depth": depth,
        }  # fmt: skip
        payload = replayed.encode()
        ids.append(replayed.message_id)
    letter = bury(broker, payload=payload)
    with pytest.raises(ReplayLimitError, match="replayed 3 times"):
        dead_letter.replay(broker, letter, max_replays=3)
    report = dead_letter.replay_many(broker, [letter], max_replays=3)
    assert "max_replays is 3" in report.failed[letter]
    assert dead_letter.replay(broker, letter).options["replay_of"]["depth"] == 4


def test_a_discarded_letter_leaves_who_discarded_it_and_why(broker: JetStreamBroker) -> None:
    letter = dead_letter.get(broker, bury(broker, actor="wörk.*"))
    ended = dead_letter.discard(broker, letter.id, reason="a test\nrun, überholt", by="Anna")
    assert dead_letter.list_ended(broker) == [ended]
    assert ended is not None
    assert (ended.id, ended.outcome, ended.by, ended.why) == (
        letter.id, "discarded", "Anna", "a test\nrun, überholt",
    )  # fmt: skip
    assert (ended.queue, ended.reason, ended.actor, ended.message_id, ended.error_class) == (
        "default", "permanent-error", "wörk.*", letter.message_id, "ValueError",
    )  # fmt: skip
    assert ended.dead_at == letter.dead_at
    assert dead_letter.list_dead(broker) == []
    assert dead_letter.discard(broker, letter.id, reason="again", by="Ben") == ended
    assert dead_letter.discard(broker, NEVER) is None


def test_a_letter_knows_when_it_will_expire(broker: JetStreamBroker) -> None:
    letter = bury(broker)
    (listed,) = dead_letter.list_dead(broker)
    got = dead_letter.get(broker, letter)
    assert listed.expires_at is not None
    assert got.expires_at is not None
    days = (listed.expires_at - listed.dead_at).total_seconds() / 86_400
    assert days == pytest.approx(30, abs=0.01)
    assert abs((got.expires_at - listed.expires_at).total_seconds()) < 0.001


def test_a_letter_written_again_after_its_replay_neither_comes_back_nor_reopens_its_record(
    broker: JetStreamBroker,
) -> None:
    sent = message("work", queue="default")
    delivery = Delivery(QUEUES[0], reply="", sequence=1, deliveries=1, data=sent.encode(), headers={})
    held = JetStreamMessage(sent, delivery)
    headers = burial.dead_headers(delivery, held, DeadReason.REJECTED, None)
    letter = bury(broker, headers=headers)
    dead_letter.replay(broker, letter)
    assert bury(broker, headers=headers) == letter
    assert dead_letter.list_dead(broker) == []
    assert [end.outcome for end in dead_letter.list_ended(broker)] == ["replayed"]
    with pytest.raises(DeadLetterNotFoundError, match="replayed as"):
        dead_letter.get(broker, letter)


def test_letters_are_listed_by_reason_and_actor_page_by_page(broker: JetStreamBroker) -> None:
    numbers: dict[int, int] = {}
    for number in range(1, 31):
        reason = DeadReason.CRASH_LOOP if number % 3 == 0 else DeadReason.REJECTED
        numbers[bury(broker, actor=f"actor{number % 2}", reason=reason)] = number
    wanted: dict[str, Any] = {"reason": "crash-loop", "actor": "actor1"}
    found = dead_letter.list_dead(broker, 3, **wanted)
    found += dead_letter.list_dead(broker, 3, **wanted, before=found[-1].id)
    assert [numbers[letter.id] for letter in found] == [27, 21, 15, 9, 3]
    assert dead_letter.list_dead(broker, reason="expired") == []
    with pytest.raises(ValueError, match="either ids or at least one"):
        dead_letter.replay_many(broker)


def test_ended_letters_are_listed_by_outcome_page_by_page(broker: JetStreamBroker) -> None:
    numbers: dict[int, int] = {}
    for number in range(1, 13):
        letter = bury(broker)
        numbers[letter] = number
        if number % 2:
            dead_letter.discard(broker, letter, by="Anna")
        elif number % 4:
            dead_letter.replay(broker, letter)
    first = dead_letter.list_ended(broker, 4, outcome="discarded")
    rest = dead_letter.list_ended(broker, 4, outcome="discarded", before=first[-1].record)
    assert [numbers[ended.id] for ended in [*first, *rest]] == [11, 9, 7, 5, 3, 1]
    replayed = dead_letter.list_ended(broker, outcome="replayed")
    assert [numbers[ended.id] for ended in replayed] == [10, 6, 2]
    assert dead_letter.list_ended(broker, queue="other") == []
    assert counts(broker) == (3, 0, 3)


def test_an_undecodable_letter_can_be_discarded_and_is_named_in_its_record(broker: JetStreamBroker) -> None:
    delivery = Delivery(QUEUES[0], reply="", sequence=next(SEQUENCES), deliveries=1, data=b"\xff", headers={})
    error = DecodeError("no", b"\xff", None)  # type: ignore[no-untyped-call]  # Dramatiq's
    headers = burial.dead_headers(delivery, None, DeadReason.UNDECODABLE, error)
    letter = bury(broker, payload=b"\xff", headers=headers)
    ended = dead_letter.discard(broker, letter, by="Anna")
    assert ended is not None
    assert (ended.reason, ended.actor, ended.message_id) == ("undecodable", None, None)
