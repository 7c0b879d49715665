"""Lists whose statements are put together once: doing it for each request takes longer than most answers.

A listing's statement has bind parameters (`owner_id`, …) where others have values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Integer, Select, Text, bindparam, or_
from sqlalchemy.orm import InstrumentedAttribute

from app.storage.postgres.queries.keyset import Key, after_cursor, cursor_after
from app.storage.postgres.queries.pages import counting

V = TypeVar("V")
AnyColumn = InstrumentedAttribute[Any] | ColumnElement[Any] | Column[Any]

_LIMIT, _OFFSET, PATTERN = "page_limit", "page_offset", "search_pattern"


class Listing(Generic[V]):
    """Rows in one order, as `kind`, which takes the statement's columns and has the keys of the order."""

    def __init__(self, kind: Callable[..., V], statement: Select[Any], order: Sequence[Key]) -> None:
        self._kind, self._statement, self._order = kind, statement, order
        self._window = (
            statement.order_by(*(key.ordered() for key in order))
            .limit(bindparam(_LIMIT, type_=Integer))
            .offset(bindparam(_OFFSET, type_=Integer))
        )
        self._count = counting(statement)

    def where(self, *conditions: ColumnElement[bool]) -> Listing[V]:
        """The list of those that meet these, too; made for once, unless there are none."""
        if not conditions:
            return self
        return Listing(self._kind, self._statement.where(*conditions), self._order)

    def page(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        *,
        limit: int,
        offset: int = 0,
        cursor: str | None = None,
    ) -> tuple[tuple[V, ...], int, str | None]:
        """Return the rows of the window, how many there are in all, and the cursor of the next window.

        Raises InvalidInputError for a cursor of another list, or beside an offset.
        """
        window = (
            self._window if cursor is None else self._window.where(after_cursor(self._order, cursor, offset))
        )
        found = connection.execute(window, {**values, _LIMIT: limit + 1, _OFFSET: offset}).all()
        rows = tuple([self._kind(*row) for row in found[:limit]])
        has_more = len(found) > limit
        # Whoever sees the end of a list need not ask how long it is.
        if has_more or cursor is not None or (offset and not found):
            total = connection.scalar(self._count, values) or 0
        else:
            total = offset + len(found)
        return rows, total, self._cursor(rows[-1]) if has_more else None

    def _cursor(self, last: V) -> str:
        return cursor_after(self._order, [getattr(last, key.name) for key in self._order])


def mentioning(*columns: AnyColumn) -> ColumnElement[bool]:
    """Whether any of the text columns holds what `pattern` is made of, whatever its case."""
    sought = bindparam(PATTERN, type_=Text)
    return or_(*(column.ilike(sought, escape="/") for column in columns))


def pattern(term: str) -> str:
    """For the bind parameter PATTERN: anything with the term in it, whose signs stand for themselves."""
    for sign in "/%_":
        term = term.replace(sign, f"/{sign}")
    return f"%{term}%"
