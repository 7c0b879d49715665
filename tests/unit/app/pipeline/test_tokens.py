"""What an answer has cost, in the words of each provider; nonsense costs nothing."""

from __future__ import annotations

import pytest

from app.pipeline.remote import tokens_in

ANSWERS = [
    ({"usage": {"prompt_tokens": 12, "total_tokens": 12}, "data": []}, (12, 0)),
    ({"usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}}, (12, 5)),
    ({"usage": {"total_tokens": 9}}, (9, 0)),
    ({"meta": {"billed_units": {"input_tokens": 7}}, "embeddings": {}}, (7, 0)),
    ({"usage": {"billed_units": {"input_tokens": 7, "output_tokens": 3.0}, "tokens": {}}}, (7, 3)),
    (
        {"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 7, "output_tokens": 3}}}},
        (7, 3),
    ),
    ({"choices": [], "usage": None}, (0, 0)),
    ({"usage": {"prompt_tokens": -5, "completion_tokens": True}}, (0, 0)),
    ({"usage": {"prompt_tokens": "many", "completion_tokens": 10**20}}, (0, 0)),
    ({"usage": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")}}, (0, 0)),
    ([1, 2], (0, 0)),
    (None, (0, 0)),
]


@pytest.mark.parametrize(("answer", "tokens"), ANSWERS)
def test_tokens_are_what_the_provider_says(answer: object, tokens: tuple[int, int]):
    assert tokens_in(answer) == tokens
