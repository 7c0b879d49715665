from __future__ import annotations

import json
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import DecodeError

from brokers import DeadReason, QueueSpec
from brokers.jetstream.burial import dead_headers
from brokers.jetstream.message import CARRIED_HEADER, Delivery, decode, note_attempt, publish_headers
from brokers.jetstream.schedule import delay_until, schedule_headers

SPEC = QueueSpec(name="quick", stream="QUICK")


def delivery(data: bytes = b"", **values: Any) -> Delivery:
    fields: dict[str, Any] = {"reply": "r", "sequence": 7, "deliveries": 1, "headers": {}}
    return Delivery(spec=SPEC, data=data, **{**fields, **values})


def message(**options: Any) -> dramatiq.Message[Any]:
    return dramatiq.Message("quick", "job", (), {}, options)


@pytest.mark.parametrize(
    "change",
    [{"queue_name": "other"}, {"actor_name": 7}, {"message_id": ""}, {"options": []}, {"unknown": 1}],
)
def test_a_message_of_the_wrong_shape_is_not_decoded(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode(delivery(json.dumps({**message().asdict(), **change}).encode()))


def test_an_eta_is_dropped_because_the_server_has_waited_already() -> None:
    assert "eta" not in decode(delivery(message(eta=1).encode())).options


def test_a_message_is_redelivered_when_an_earlier_sequence_was_delivered() -> None:
    assert not delivery().redelivered
    assert delivery(deliveries=2).redelivered
    assert delivery(headers={CARRIED_HEADER: "4"}).redelivered
    assert not delivery(headers={CARRIED_HEADER: "many"}).redelivered


def test_the_publish_id_names_message_and_attempt() -> None:
    sent = message(retries=3, traceparent="00-1-2-01")
    headers = publish_headers(sent)
    assert headers["Nats-Msg-Id"] == f"{sent.message_id}:3"
    assert headers["traceparent"] == "00-1-2-01"
    assert publish_headers(message(retries="many"))["Nats-Msg-Id"].endswith(":0")


def test_the_history_of_attempts_stays_bounded() -> None:
    held = decode(delivery(message().encode()))
    for _ in range(50):
        note_attempt(held, ValueError("x" * 10_000), version="v" * 1000, next_delay_seconds=86_400.123)
    assert len(json.dumps(held.options["attempts"])) < 12_000


def test_an_attempt_says_release_wait_and_the_delay_of_the_next_one() -> None:
    held = decode(delivery(message().encode(), stored_at=int(1e18)))
    held.started_at = 1e9 + 2.5
    note_attempt(held, ValueError("x"), version="1.2.0", next_delay_seconds=30)
    held.started_at = 1e9 - 1  # a clock that is behind the server's
    note_attempt(held, None)
    first, second = held.options["attempts"]
    assert (first["version"], first["waited_seconds"], first["next_delay_seconds"]) == ("1.2.0", 2.5, 30)
    assert (second["version"], second["waited_seconds"], second["next_delay_seconds"]) == (None, 0.0, None)


def test_dead_letter_headers_are_single_ascii_lines_of_bounded_size() -> None:
    held = decode(delivery(message().encode()))
    error = ValueError("ü\r\nInjected: header\n" * 10_000)
    headers = dead_headers(held.delivery, held, DeadReason.PERMANENT_ERROR, error)
    assert all(value.isascii() and "\n" not in value and "\r" not in value for value in headers.values())
    assert sum(map(len, headers.values())) < 64_000


def test_a_schedule_names_its_time_in_utc_and_outlives_the_streams_age() -> None:
    headers = schedule_headers(1500, "transforms.ready.quick")
    assert headers["Nats-Schedule"].startswith("@at 2")
    assert headers["Nats-Schedule"].endswith("Z")
    assert headers["Nats-TTL"] == "never"


@pytest.mark.parametrize("eta", [None, "soon", True, [1]])
def test_an_eta_that_is_no_number_is_no_delay(eta: Any) -> None:
    assert delay_until(eta) is None


def test_an_eta_in_the_past_is_due_now() -> None:
    assert delay_until(time.time() * 1000 - 5000) == 0
