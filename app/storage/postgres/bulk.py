"""Many rows at once by COPY, into tables without a model; docs/benchmarks/pipeline.md has its speed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, cast

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

_ROWS_PER_COPY = 1000  # bounds the text that is held beside the rows
# For each part that it sends, the driver needs the interpreter's lock to read the next: with its own 8 KiB,
# a copy beside busy threads mostly waits for that.
_BYTES_PER_READ = 1024 * 1024
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def copy_rows(session: Session, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows in the session's transaction; all have the keys of the first, which are columns of the table.

    Values are what `str` makes of them (texts, numbers, UUIDs, booleans), None, or lists of texts. Raises
    SQLAlchemy's errors, as an INSERT would.
    """
    pending = iter(rows)
    while part := list(islice(pending, _ROWS_PER_COPY)):
        columns = ", ".join(part[0])
        lines = io.StringIO("".join(_line(row.values()) for row in part))
        _copy(session, f"COPY {table} ({columns}) FROM STDIN", lines)


def _copy(session: Session, statement: str, lines: io.StringIO) -> None:
    connection: Any = session.connection().connection
    with connection.cursor() as cursor:
        try:
            cursor.copy_expert(statement, lines, _BYTES_PER_READ)
        except psycopg2.Error as error:
            # Else Database.transaction would not know it for one of Postgres.
            raise cast("DBAPIError", DBAPIError.instance(statement, None, error, psycopg2.Error)) from error


def _line(values: Iterable[Any]) -> str:
    return "\t".join(map(_field, values)) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, int):
        return str(value)
    text = _array(value) if isinstance(value, list) else str(value)
    # Most texts have nothing to escape, and looking is a quarter of the work.
    special = "\\" in text or "\n" in text or "\t" in text or "\r" in text
    return text.translate(_ESCAPES) if special else text


def _array(words: list[str]) -> str:
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    return "{" + ",".join(f'"{word}"' for word in quoted) + "}"
