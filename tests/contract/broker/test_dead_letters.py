"""Dead letters, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dramatiq.errors import ConnectionClosed, DecodeError, QueueNotFound

from brokers import DeadLetterNotFoundError, JetStreamBroker, NotReplayableError, dead_letter
from brokers.jetstream import dead_records
from tests.contract.broker.harness import Run, Told, counts, declare, only_ours, publish_raw
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


class RefusedError(Exception):
    pass


def fail(word: str) -> None:
    raise RuntimeError(f"{word}: ümlaut\nand a second line")


def test_a_dead_letter_has_the_whole_history_of_its_message(broker: JetStreamBroker, run: Run) -> None:
    begin = time.time()
    actor = declare(broker, fail, actor_name="fail")
    sent = actor.send_with_options(args=("never",), traceparent="00-abc-def-01")
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.queue, letter.actor, letter.message_id) == ("default", "fail", sent.message_id)
    assert (letter.reason, letter.error_class) == ("attempts-exhausted", "RuntimeError")
    assert letter.error_message == "never: ümlaut\nand a second line"
    assert "in fail" in letter.trace
    assert [entry["attempt"] for entry in letter.attempts] == [1, 2, 3, 4, 5]
    assert all(begin - 1 < entry["started_at"] <= entry["ended_at"] for entry in letter.attempts)
    assert {entry["error"].partition(":")[0] for entry in letter.attempts} == {"RuntimeError"}
    assert (letter.origin_stream, letter.traceparent) == ("DEFAULT", "00-abc-def-01")
    assert letter.origin_sequence > 0
    assert letter.worker == letter.attempts[0]["worker"]
    assert abs(letter.dead_at.timestamp() - time.time()) < 60
    assert counts(broker) == (0, 0, 1)


def test_an_error_in_throws_is_permanent_and_dead_at_once(broker: JetStreamBroker, run: Run) -> None:
    def refuse() -> None:
        raise RefusedError("bad input")

    declare(broker, refuse, throws=(RefusedError,)).send()
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, len(letter.attempts)) == ("permanent-error", 1)
    assert (letter.error_class or "").endswith("test_dead_letters.RefusedError")


def test_a_message_over_its_age_is_dead_as_expired(broker: JetStreamBroker, run: Run) -> None:
    declare(broker, lambda: None, max_age=50).send_with_options(delay=200)
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.attempts) == ("expired", [])


def test_a_rejected_message_without_an_error_is_dead_as_rejected(broker: JetStreamBroker) -> None:
    broker.enqueue(message("job", queue="default"))
    consumer = broker.consume("default", timeout=100)
    taken = wait_until(lambda: next(consumer))
    taken.fail()
    consumer.nack(taken)
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.error_class, letter.error_message) == ("rejected", None, "")


def test_middleware_is_told_of_each_dead_letter(broker: JetStreamBroker, run: Run) -> None:
    class Breaks:
        actor_options = frozenset[str]()

        def __getattr__(self, name: str) -> Any:
            if name == "after_dead_letter":
                raise AttributeError(name)
            return lambda *_, **__: None

    told = Told()
    broker.add_middleware(Breaks())  # type: ignore[arg-type]  # a middleware without our hook
    broker.add_middleware(told)
    sent = declare(broker, fail, max_retries=0).send("x")
    publish_raw(broker, b"bad")
    run()
    assert sorted(told.dead, key=str) == sorted(
        [(sent.message_id, "attempts-exhausted", "RuntimeError"), (None, "undecodable", "DecodeError")],
        key=str,
    )


def test_a_middleware_that_fails_does_not_stop_the_dead_letter(broker: JetStreamBroker, run: Run) -> None:
    class Breaks(Told):
        def after_dead_letter(self, *args: Any) -> None:
            raise ZeroDivisionError

    broker.add_middleware(Breaks())
    declare(broker, fail, max_retries=0).send("x")
    run()
    assert counts(broker) == (0, 0, 1)


def test_a_list_has_the_newest_first_in_pages_and_no_payloads(broker: JetStreamBroker, run: Run) -> None:
    declare(broker, fail)
    for number in range(7):
        publish_raw(broker, b"bad" * (number + 1))
    run()
    first = dead_letter.list_dead(broker, 3, queue="default")
    second = dead_letter.list_dead(broker, 10, queue="default", before=first[-1].id)
    assert [letter.size_bytes for letter in [*first, *second]] == [21, 18, 15, 12, 9, 6, 3]
    assert all(letter.payload is None for letter in first)
    assert dead_letter.list_dead(broker, queue="other") == []
    assert dead_letter.get(broker, first[0].id).payload == b"bad" * 7


def test_a_discarded_dead_letter_is_gone_and_discarding_it_again_is_no_error(
    broker: JetStreamBroker, run: Run
) -> None:
    declare(broker, fail, max_retries=0).send("x")
    run()
    (letter,) = dead_letter.list_dead(broker)
    dead_letter.discard(broker, letter.id)
    dead_letter.discard(broker, letter.id)
    assert dead_letter.list_dead(broker) == []
    with pytest.raises(DeadLetterNotFoundError, match=f"no dead letter {letter.id} any more"):
        dead_letter.get(broker, letter.id)
    with pytest.raises(DeadLetterNotFoundError):
        dead_letter.replay(broker, letter.id)


def test_a_replay_is_a_new_message_that_names_the_old_one(broker: JetStreamBroker, run: Run) -> None:
    ran: list[str] = []

    def job(word: str) -> None:
        ran.append(word)
        if len(ran) <= 2:
            raise RuntimeError("not yet")

    sent = declare(broker, job, max_retries=1).send_with_options(args=("again",), mark="kept")
    run()
    (letter,) = dead_letter.list_dead(broker)
    replayed = dead_letter.replay(broker, letter.id)
    run()
    assert ran == ["again", "again", "again"]
    assert replayed.message_id != sent.message_id
    assert replayed.options["mark"] == "kept"
    assert not {"attempts", "retries", "traceback"} & set(replayed.options)
    assert replayed.options["replay_of"] == {
        "dead_letter": letter.id, "message_id": sent.message_id, "reason": "attempts-exhausted",
        "root": sent.message_id, "depth": 1,
    }  # fmt: skip
    assert dead_letter.list_dead(broker) == []


def test_a_replay_that_was_begun_is_finished_and_nothing_is_sent_for_others(
    broker: JetStreamBroker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise ConnectionClosed("the process is gone")  # type: ignore[no-untyped-call]  # Dramatiq's

    ran: list[str] = []

    def job(word: str) -> None:
        ran.append(word)
        if len(ran) <= 3:
            raise RuntimeError("not yet")

    actor = declare(broker, job, max_retries=0)
    for word in "abc":
        actor.send(word)
    run()
    untouched, done, begun = (letter.id for letter in dead_letter.list_dead(broker))
    dead_letter.replay(broker, done, by="bob")
    with monkeypatch.context() as patched, pytest.raises(ConnectionClosed):
        patched.setattr(dead_records, "end_seen", die)
        dead_letter.replay(broker, begun, by="carol")
    found = dead_letter.finish_replays(broker, [begun, done, untouched, 4711], by="anna", why="later")
    told = {key: (str(ended.outcome), ended.by) for key, ended in found.items()}
    assert told == {begun: ("replayed", "anna"), done: ("replayed", "bob")}
    assert [letter.id for letter in dead_letter.list_dead(broker)] == [untouched]
    run()
    assert (len(ran), counts(broker)) == (5, (0, 0, 1))


def test_what_could_not_be_read_cannot_be_replayed(broker: JetStreamBroker, run: Run) -> None:
    declare(broker, lambda: None)
    publish_raw(broker, b"\xff\xfe")
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert letter.error_class == f"{DecodeError.__module__}.DecodeError"
    with pytest.raises(NotReplayableError, match="undecodable"):
        dead_letter.replay(broker, letter.id)
    assert counts(broker) == (0, 0, 1)


def test_a_replay_to_a_queue_that_is_gone_keeps_the_dead_letter(broker: JetStreamBroker, run: Run) -> None:
    declare(broker, lambda: None)
    publish_raw(broker, message("job", queue="gone").encode())
    run()
    (letter,) = dead_letter.list_dead(broker)
    with pytest.raises(QueueNotFound, match="gone"):
        dead_letter.replay(broker, letter.id)
    assert counts(broker) == (0, 0, 1)
