from __future__ import annotations

from typing import Any

import pytest

from app.api.errors import shape


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true or false"),
        (7, "an integer"),
        (0.5, "a number"),
        ("sk-secret", "text of length 9"),
        (["sk-secret"], "a list of length 1"),
        ({"key": "sk-secret"}, "an object"),
    ],
)
def test_a_refused_value_is_told_by_its_shape_alone(value: Any, words: str):
    assert shape(value) == words
