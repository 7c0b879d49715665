"""Filters of a search as clients write them: `{"language": "en", "page": {"gte": 3}, "file_id": [7, 9]}`.

A plain value means equality, a list any of its values, an object a range; all fields must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.errors import InvalidInputError
from app.storage.filters import AnyOf, DateRange, Equal, Filters, NumberRange

# What every vector's payload holds, apart from its owner.
FIELDS: Mapping[str, str] = {
    "item_id": "integer",
    "file_id": "integer",
    "page": "integer",
    "media_type": "text",
    "language": "text",
    "tags": "text",
    "created_at": "date",
}
_BOUNDS = ("gte", "gt", "lte", "lt")
_MOST_VALUES = 1000
_LARGEST = 2**53  # beyond, a JSON number is no longer a whole number everywhere


def parse_filters(raw: Mapping[str, Any]) -> tuple[Filters, ...]:
    """One filter per field, all of which must hold.

    Raises InvalidInputError whose field is e.g. "filters.page" and whose message says the type wanted.
    """
    return tuple(_filter(name, value) for name, value in raw.items())


def _filter(name: str, value: Any) -> Filters:
    kind = FIELDS.get(name)
    if kind is None:
        raise InvalidInputError(
            f"filters.{name[:50]}: there is no such field; use {', '.join(FIELDS)}",
            field=f"filters.{name[:50]}",
        )
    return {"integer": _integer, "text": _text, "date": _date}[kind](name, value)


def _integer(name: str, value: Any) -> Filters:
    if isinstance(value, Mapping):
        return NumberRange(name, **_bounds(name, value, _checked_integer))
    if isinstance(value, list):
        return AnyOf(name, tuple(_checked_integer(name, each) for each in _some(name, value)))
    return Equal(name, _checked_integer(name, value))


def _text(name: str, value: Any) -> Filters:
    if isinstance(value, list):
        return AnyOf(name, tuple(_checked_text(name, each) for each in _some(name, value)))
    return Equal(name, _checked_text(name, value))


def _date(name: str, value: Any) -> Filters:
    if not isinstance(value, Mapping):
        raise _wrong(name, 'must be a range like {"gte": "2026-01-31", "lt": "2026-02-28"}')
    return DateRange(name, **_bounds(name, value, _checked_date))


def _bounds(name: str, value: Mapping[str, Any], check: Callable[[str, Any], Any]) -> dict[str, Any]:
    if not value or set(value) - set(_BOUNDS):
        raise _wrong(name, f"a range takes {', '.join(_BOUNDS)}")
    return {bound: check(name, each) for bound, each in value.items()}


def _some(name: str, values: list[Any]) -> list[Any]:
    if not 1 <= len(values) <= _MOST_VALUES:
        raise _wrong(name, f"a list takes 1 to {_MOST_VALUES} values")
    return values


def _checked_integer(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise _wrong(name, "must be a whole number, a list of them, or a range")
    return value


def _checked_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\x00" in value:
        raise _wrong(name, "must be a text or a list of texts")
    return value


def _checked_date(name: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(name, "must hold dates like 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _wrong(name: str, rule: str) -> InvalidInputError:
    return InvalidInputError(f"filters.{name}: {rule}", field=f"filters.{name}")
