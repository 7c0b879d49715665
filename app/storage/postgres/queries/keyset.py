"""A window on a statement that begins after a row seen before: as quick at the end of a list as at its start.

Rows that are added or removed meanwhile shift nothing, as they do with an offset.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, false, literal, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import InvalidInputError
from app.storage.postgres.queries.pages import count

T = TypeVar("T", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class Key:
    """One column of the order; the last key of an order is unique. Rows without a value come last."""

    name: str
    column: InstrumentedAttribute[Any] | ColumnElement[Any]
    descending: bool = False
    nullable: bool = False

    def ordered(self) -> ColumnElement[Any]:
        """For ORDER BY."""
        column = self.column.desc() if self.descending else self.column.asc()
        return column.nulls_last() if self.nullable else column

    def behind(self, value: Any) -> ColumnElement[bool]:
        """Whether a row comes after those with this value."""
        if value is None:
            return false()
        bound = literal(value, self.column.type)
        beyond = self.column < bound if self.descending else self.column > bound
        return or_(beyond, self.column.is_(None)) if self.nullable else beyond

    def same(self, value: Any) -> ColumnElement[bool]:
        """Whether a row has this value."""
        return self.column.is_(None) if value is None else self.column == literal(value, self.column.type)


def keyed_page(
    session: Session,
    statement: Select[T],
    order: Sequence[Key],
    *,
    limit: int,
    offset: int = 0,
    cursor: str | None = None,
) -> tuple[Sequence[T], int, str | None]:
    """Return the rows of the window, how many the whole statement has, and the cursor of the next window.

    Raises InvalidInputError for a cursor of another list, or beside an offset.
    """
    window = statement.order_by(*(key.ordered() for key in order)).add_columns(*(key.column for key in order))
    if cursor is not None:
        window = window.where(after_cursor(order, cursor, offset))
    rows = session.execute(window.limit(limit + 1).offset(offset)).all()
    width = len(rows[0]) - len(order) if rows else 0
    following = cursor_after(order, rows[limit - 1][width:]) if len(rows) > limit else None
    page = [cast("T", tuple(row[:width])) for row in rows[:limit]]
    if following is None and cursor is None and (rows or not offset):
        return page, offset + len(rows), None  # whoever sees the end need not ask how far it is
    return page, count(session, statement), following


def after_cursor(order: Sequence[Key], cursor: str, offset: int) -> ColumnElement[bool]:
    """Which rows come after the page whose next cursor this is; raises InvalidInputError."""
    if offset:
        raise InvalidInputError("cursor and offset: give one of the two", field="cursor")
    return _after(order, _read(order, cursor))


def _after(order: Sequence[Key], last: Sequence[Any]) -> ColumnElement[bool]:
    """Behind in one key, and the same in all before it."""
    return or_(
        *(
            and_(*map(Key.same, order[:i], last[:i]), key.behind(value))
            for i, (key, value) in enumerate(zip(order, last, strict=True))
        )
    )


def cursor_after(order: Sequence[Key], values: Sequence[Any]) -> str:
    """The cursor of what comes after the row with these values of the keys."""
    plain = [_plain(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps([_names(order), plain]).encode()).decode().rstrip("=")


def _read(order: Sequence[Key], cursor: str) -> list[Any]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        names, values = json.loads(raw)
        last = [_value(key, value) for key, value in zip(order, values, strict=True)]
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        names, last = None, []
    if names != _names(order):
        raise InvalidInputError("cursor must be the next_cursor of a page in the same order", field="cursor")
    return last


def _value(key: Key, plain: Any) -> Any:
    return None if plain is None else _READERS[key.column.type.python_type](plain)


def _text(plain: Any) -> str:
    if "\x00" in plain:  # no database takes it
        raise ValueError(plain)
    return str(plain)


_READERS: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    timedelta: lambda seconds: timedelta(seconds=seconds),
    UUID: UUID,
    str: _text,
    int: int,
    bool: bool,
}


def _names(order: Sequence[Key]) -> list[str]:
    return [f"{'-' if key.descending else ''}{key.name}" for key in order]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, UUID) else value
