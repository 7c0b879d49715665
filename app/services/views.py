"""Turns rows into the frozen values that services return, so that no session leaks out of a use case."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

V = TypeVar("V")


def view(kind: type[V], row: object, **more: Any) -> V:
    """Build `kind` from the attributes of `row` that have its fields' names; `more` wins over them."""
    names = _names(kind)  # type: ignore[arg-type]  # every class is hashable
    taken = {name: getattr(row, name) for name in names if name not in more}
    return kind(**taken, **more)


@cache
def _names(kind: type[object]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # kind is always a dataclass


def columns_of(kind: type[Any], table: Any, **others: Any) -> tuple[Any, ...]:
    """What to select so that a row, as it comes, holds the fields of `kind` in their order.

    They are the table's columns of these names; `others` win over them.
    """
    names = _names(kind)  # type: ignore[arg-type]  # every class is hashable
    return tuple(others[name] if name in others else getattr(table, name) for name in names)
