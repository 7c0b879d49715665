"""Many rows as one parameter: the statement that writes them is made once, and compiled once per process.

A VALUES list is compiled anew each time, with a parameter for every field of every row: for a page of 500
jobs that took longer than writing them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Select, Table, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.orm import DeclarativeBase

_PARAMETER = "rows_given"


def insert_given(model: type[DeclarativeBase], names: Sequence[str]) -> Insert:
    """INSERT of the named columns, in this order, of rows that come with each execution (`given`)."""
    table = cast("Table", model.__table__)
    return insert(table).from_select(list(names), _rows(table, names))


def given(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters for rows with all of the names; values as JSON has them, or what `str` makes of them."""
    return {_PARAMETER: [{name: _json(value) for name, value in row.items()} for row in rows]}


def _rows(table: Table, names: Sequence[str]) -> Select[Any]:
    columns = [column(name, table.c[name].type) for name in names]
    parameter = bindparam(_PARAMETER, type_=JSONB)
    rows = (
        func.jsonb_to_recordset(parameter)
        .table_valued(*columns, name="given")
        .render_derived(with_types=True)
    )
    return select(*rows.c)


def _json(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | dict | list) else str(value)
