from __future__ import annotations

import base64

from brokers.jetstream.stored import all_headers, own_headers, stored_payload


def found(block: str) -> dict[str, str]:
    return {"hdrs": base64.b64encode(block.encode()).decode()}


def test_headers_are_read_with_and_without_a_space_and_to_the_end_of_their_line() -> None:
    stored = found("NATS/1.0\r\nA: b: c\r\nNats-TTL:5s\r\nText: one\ntwo\r\nEmpty:\r\n\r\n")
    assert all_headers(stored) == {"A": "b: c", "Nats-TTL": "5s", "Text": "one\ntwo", "Empty": ""}
    assert own_headers(stored) == {"A": "b: c", "Text": "one\ntwo", "Empty": ""}


def test_a_message_may_have_neither_headers_nor_a_body() -> None:
    assert (all_headers({}), stored_payload({})) == ({}, b"")
