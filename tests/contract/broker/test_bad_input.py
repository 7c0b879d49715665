"""Bytes from strangers: each has its dead letter or its run, and the next message always runs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from brokers import JetStreamBroker, dead_letter
from brokers.jetstream.message import CARRIED_HEADER, FORMAT_HEADER
from tests.contract.broker.harness import Run, counts, declare, only_ours, publish_raw
from tests.integration.broker.workers import message

pytestmark = only_ours


def fields(**changes: Any) -> bytes:
    return json.dumps({**message("job", queue="default").asdict(), **changes}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"\x00" * 1000,
        b"[1, 2]",
        b'"text"',
        b"null",
        b'{"order": 17, "customer": "a stranger"}',
        b'{"queue_name": "default"}',
        fields(queue_name="other"),
        fields(actor_name=7),
        fields(message_id=""),
        fields(options=[]),
        fields(args=None),
        fields(kwargs=None),
        fields(kwargs=[1]),
        fields(options={"throws": "ValueError"}),
        fields(message_timestamp="soon"),
        fields(message_timestamp=None),
        fields(message_timestamp=10**400),
        fields(message_timestamp=float("nan")),
        fields(shape_of_the_next_version=2),
    ],
    ids=lambda payload: payload[:40].decode(errors="replace").strip("\x00") or "empty",
)
def test_what_is_no_message_of_this_queue_is_dead_and_the_next_one_runs(
    broker: JetStreamBroker, run: Run, caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    ran: list[int] = []
    actor = declare(broker, lambda: ran.append(1))
    publish_raw(broker, payload)
    actor.send()
    run()
    assert ran == [1]
    (listed,) = dead_letter.list_dead(broker)
    letter = dead_letter.get(broker, listed.id)
    assert (letter.reason, letter.payload, letter.actor) == ("undecodable", payload, None)
    assert "is dead: undecodable" in caplog.text
    assert counts(broker) == (0, 0, 1)


def test_an_unknown_actor_is_dead_at_once_and_can_be_replayed_when_it_is_known(
    broker: JetStreamBroker, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    declare(broker, lambda: None, actor_name="known")
    sent = broker.enqueue(message("new", "argument", queue="default"))
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.actor, letter.message_id) == ("unknown-actor", "new", sent.message_id)
    assert letter.error_class == "dramatiq.errors.ActorNotFound"
    assert "is dead: unknown-actor" in caplog.text
    declare(broker, ran.append, actor_name="new")
    dead_letter.replay(broker, letter.id)
    run()
    assert ran == ["argument"]


@pytest.mark.parametrize("header", [CARRIED_HEADER, FORMAT_HEADER])
@pytest.mark.parametrize("value", ["abc", "-3", "1.5", "", "9" * 30, "9" * 5000])
def test_a_count_that_is_none_does_not_stop_the_message(
    broker: JetStreamBroker, run: Run, caplog: pytest.LogCaptureFixture, value: str, header: str
) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1))
    publish_raw(broker, fields(), {header: value})
    run()
    assert (ran, counts(broker)) == ([1], (0, 0, 0))
    said = f"The header {header} of message job() is {value!r:.60}, no number: taken as 0."
    assert said in caplog.messages


@pytest.mark.parametrize(
    "options",
    [{"eta": "soon"}, {"eta": -1}, {"eta": None}, {"traceparent": 7}, {"retries": [1]}, {"attempts": 5}],
)
def test_options_of_the_wrong_type_do_not_stop_the_message(
    broker: JetStreamBroker, run: Run, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1))
    broker.enqueue(message("job", queue="default", **options))
    publish_raw(broker, fields(options=options))
    run()
    assert (len(ran), counts(broker)) == (2, (0, 0, 0))
    ((name, value),) = options.items()
    said = [text for text in caplog.messages if text.startswith(f"The option {name} of message ")]
    assert bool(said) == (value not in (-1, None))
    assert all(f" is {value!r}, no " in text for text in said)


@pytest.mark.parametrize("by", ["delay", "eta"])
def test_a_schedule_in_the_past_is_due_now_and_says_so(
    broker: JetStreamBroker, run: Run, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    ran: list[int] = []
    late: dict[str, Any] = {by: -3_600_000 + (time.time() * 1000 if by == "eta" else 0)}
    declare(broker, lambda: ran.append(1)).send_with_options(**late)
    run()
    assert ran == [1]
    assert any("is scheduled for 36" in text for text in caplog.messages)


def test_arguments_that_the_actor_does_not_take_end_in_a_dead_letter(
    broker: JetStreamBroker, run: Run
) -> None:
    declare(broker, lambda: None)
    broker.enqueue(message("job", "one too many", queue="default"))
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.error_class) == ("attempts-exhausted", "TypeError")


@pytest.mark.parametrize("args", [17, "text", {"a": 1}])
def test_arguments_that_are_no_list_never_block_the_queue(
    broker: JetStreamBroker, run: Run, args: Any
) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1), actor_name="healthy").send()
    declare(broker, lambda: None)
    publish_raw(broker, fields(args=args))
    run()
    assert (ran, counts(broker)) == ([1], (0, 0, 1))
