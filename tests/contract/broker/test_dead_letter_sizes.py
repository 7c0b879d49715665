"""Dead letters whose histories are too long for a message's headers: the letter is stored all the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from brokers import DeadReason, JetStreamBroker, dead_letter
from brokers.jetstream import burial
from brokers.jetstream.message import Delivery, JetStreamMessage
from tests.contract.broker.harness import QUEUES, only_ours
from tests.integration.broker import letters
from tests.integration.broker.workers import message

pytestmark = only_ours
SEQUENCES = itertools.count(2 * 10**9)  # of no real message: a letter of one origin is stored once
FACE = "\N{GRINNING FACE}"  # one character, twelve bytes of JSON


def attempts(text: str, number: int = 20) -> list[dict[str, Any]]:
    return [{"attempt": count, "error": text} for count in range(1, number + 1)]


def bury(broker: JetStreamBroker, headers: dict[str, str], payload: bytes | None = None) -> int:
    """Write a letter with headers that no release of ours would write."""
    sent = message("work", queue="default")
    delivery = Delivery(QUEUES[0], "", next(SEQUENCES), 1, payload or sent.encode(), {})
    held = JetStreamMessage(sent, delivery)
    made = burial.dead_headers(delivery, held, DeadReason.REJECTED, ValueError("wrong"))
    return letters.bury(
        broker, spec=QUEUES[0], sequence=delivery.sequence, payload=delivery.data, headers=made | headers
    )


def test_a_letter_with_every_text_at_its_longest_is_stored(broker: JetStreamBroker) -> None:
    sent = message("work", queue="default", attempts=attempts(FACE * 300))
    headers = {"traceparent": FACE * 9000, "tracestate": FACE * 200}
    delivery = Delivery(QUEUES[0], "", next(SEQUENCES), 1, sent.encode(), headers)
    error = type("Ü" * 9000, (ValueError,), {})(FACE * 10_000)
    held = JetStreamMessage(sent.copy(actor_name=FACE * 9000, message_id=FACE * 9000), delivery)
    made = burial.dead_headers(delivery, held, DeadReason.REJECTED, error)
    assert sum(len(name) + len(value.encode()) + 4 for name, value in made.items()) < 60_000
    stored = letters.bury(broker, spec=QUEUES[0], sequence=delivery.sequence, headers=made)
    (letter,) = dead_letter.list_dead(broker)
    assert letter.id == stored
    assert letter.error_message.strip(FACE) == ""
    assert letter.trace.endswith(f"{FACE}\n")
    assert [entry["attempt"] for entry in letter.attempts] == list(range(21 - len(letter.attempts), 21))
    assert len(letter.attempts) >= 5


def test_a_history_that_the_server_refuses_is_left_out_and_the_message_kept(broker: JetStreamBroker) -> None:
    letter = dead_letter.get(broker, bury(broker, {"Dead-Trace": f'"{"x" * 70_000}"'}))
    assert (letter.trace, letter.error_message, letter.attempts) == ("", "", [])
    assert (letter.reason, letter.actor, letter.error_class) == ("rejected", "work", "ValueError")
    assert letter.truncated_bytes == 0
    assert dead_letter.replay(broker, letter.id).actor_name == "work"


def test_a_payload_is_cut_only_when_leaving_out_the_history_is_not_enough(broker: JetStreamBroker) -> None:
    history = {"Dead-Trace": f'"{"x" * 50_000}"'}
    whole = dead_letter.get(broker, bury(broker, history, b"x" * 1_020_000))
    assert (len(whole.payload or b""), whole.truncated_bytes, whole.trace) == (1_020_000, 0, "")
    cut = dead_letter.get(broker, bury(broker, history, b"x" * 1_048_576))
    assert (len(cut.payload or b"") + cut.truncated_bytes, len(cut.trace)) == (1_048_576, 50_000)


@pytest.mark.parametrize("number", ["\ud800", "a\r\nb", FACE * 30_000])
def test_a_message_with_a_strange_id_can_be_buried(broker: JetStreamBroker, number: str) -> None:
    sent = message("work", queue="default").copy(message_id=number)
    delivery = Delivery(QUEUES[0], "", next(SEQUENCES), 1, sent.encode(), {})
    made = burial.dead_headers(delivery, JetStreamMessage(sent, delivery), DeadReason.REJECTED, None)
    stored = letters.bury(
        broker, spec=QUEUES[0], sequence=delivery.sequence, payload=delivery.data, headers=made
    )
    (letter,) = dead_letter.list_dead(broker)
    assert letter.id == stored
    assert number.startswith(letter.message_id or "none")
    assert dead_letter.replay(broker, stored).options["replay_of"]["message_id"] == number
