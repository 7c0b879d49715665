from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ProviderUnavailableError
from app.pipeline.generation.wire import Thoughts, event_data


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 500), max_size=12))
def test_events_are_the_same_wherever_the_network_cuts(places: list[int]):
    body = 'event: x\r\ndata: {"a":\r\ndata: "ü🐅"}\r\n\r\n: note\n\ndata:[DONE]\n\ndata: never en'.encode()
    assert list(event_data(cut(body, places))) == ['{"a":\n"ü🐅"}', "[DONE]"]


@given(st.lists(st.integers(0, 500), max_size=12))
def test_thoughts_are_left_out_wherever_the_pieces_end(places: list[int]):
    said = "a <b <think>one</thin> </think>two<think>three</think> <thin"
    edges = [0, *sorted(place % (len(said) + 1) for place in places), len(said)]
    thoughts = Thoughts()
    shown = "".join(thoughts.said(said[a:b]) for a, b in itertools.pairwise(edges))
    assert shown + thoughts.rest() == "a <b two <thin"


def test_a_line_without_end_is_not_put_together():
    taken: list[int] = []

    def body() -> Iterator[bytes]:
        for _ in range(100):
            taken.append(1)
            yield b"x" * 65536

    with pytest.raises(ProviderUnavailableError, match="without end"):
        list(event_data(body()))
    assert len(taken) < 20
