"""A window on a statement, with the number of all its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

T = TypeVar("T", bound=tuple[Any, ...])


def page(session: Session, statement: Select[T], *, limit: int, offset: int) -> tuple[Sequence[Row[T]], int]:
    """Return the rows of the window and how many the whole statement has."""
    rows = session.execute(statement.limit(limit).offset(offset)).all()
    if len(rows) < limit and (rows or not offset):  # whoever sees the end need not ask how far it is
        return rows, offset + len(rows)
    return rows, count(session, statement)


def count(session: Session, statement: Select[T]) -> int:
    """How many rows the statement has."""
    return session.scalar(counting(statement)) or 0


def counting(statement: Select[Any]) -> Select[tuple[int]]:
    """A statement that counts the rows of another."""
    bare = statement.order_by(None).with_only_columns(func.now(), maintain_column_froms=True)
    return select(func.count()).select_from(bare.subquery())


def mentions(term: str, *columns: InstrumentedAttribute[Any] | ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether any of the text columns holds the term, whatever its case."""
    return or_(*(column.icontains(term, autoescape=True) for column in columns))
