"""Texts that Postgres and JSON can hold: all but those with a NUL or with half of a surrogate pair."""

from __future__ import annotations

import math
from typing import Any

from app.errors import InvalidInputError


def is_storable(text: str) -> bool:
    """Whether the database takes it."""
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def check_storable(value: Any, field: str) -> None:
    """Raise InvalidInputError for a JSON value, `field`'s, with a text or a number that cannot be stored."""
    if isinstance(value, str) and not is_storable(value):
        raise InvalidInputError(f"{field} must not hold NUL characters or half surrogate pairs", field=field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{field} must not hold a number without end, nor NaN", field=field)
    if isinstance(value, dict):
        check_storable([*value.keys(), *value.values()], field)
    elif isinstance(value, list):
        for each in value:
            check_storable(each, field)
