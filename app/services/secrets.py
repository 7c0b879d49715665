"""Secrets at rest, all of them: rotating them to the active key, and checking that every one opens.

Which columns hold secrets is asked of the tables (`info={"secret": name}` on the column), so that a new one
is rotated and checked from its first day. Values are never logged, returned or kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Column, CursorResult, Row, Select, Table, Text, column, func, select, update, values
from sqlalchemy.orm import Session

from app.errors import ExplorerError, InvalidInputError, UnavailableError
from app.security.crypto import SecretBox, key_id_of, sealed_with
from app.services.audit_trail import AuditTrail
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Base

_MOST_PASSES = 3  # the second finds what was written meanwhile by a process that has not got the new key
_READ_AT_ONCE = 1000
_UNREADABLE = "unreadable"  # stands for the key id of what is no sealed value


@dataclass(frozen=True, slots=True)
class SecretColumn:
    """A column of sealed values. `name` is what the values are bound to, which outlives a renamed column."""

    table: Table
    column: Column[Any]
    name: str

    @property
    def key(self) -> Column[Any]:
        """The table's primary key, which is one column."""
        (key,) = self.table.primary_key.columns
        return key

    def place(self, row: Row[Any]) -> dict[str, Any]:
        """What the value of the row is bound to."""
        return {"table": self.table.name, "column": self.name, "row": row.key, "owner": row.owner_id}

    def after(self, last: Any, limit: int) -> Select[Any]:
        """Rows with a secret, by key: `key`, `owner_id`, `sealed`."""
        statement = (
            select(self.key.label("key"), self.table.c.owner_id, self.column.label("sealed"))
            .where(self.column.is_not(None))
            .order_by(self.key)
            .limit(limit)
        )
        return statement if last is None else statement.where(self.key > last)


@dataclass(frozen=True, slots=True)
class Fault:
    """A secret that does not open, or is not sealed with the active key: where it is, and what is wrong."""

    table: str
    column: str
    row: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction of a rotation."""

    table: str
    column: str
    rotated: int
    faults: Sequence[Fault]
    last: Any  # the row it came to


@dataclass(slots=True)
class Checked:
    """What a check has found so far: how many secrets, by key, and those that are not as they should be."""

    total: int = 0
    by_key: Counter[str] = field(default_factory=Counter)


def secret_columns() -> tuple[SecretColumn, ...]:
    """Every column that holds secrets, in the order of the tables' names."""
    return tuple(
        SecretColumn(table, column, column.info["secret"])
        for table in sorted(Base.metadata.tables.values(), key=lambda each: each.name)
        for column in table.columns
        if "secret" in column.info
    )


@dataclass(frozen=True, slots=True)
class Secrets:
    """Verbs on all secrets of the installation, for operators."""

    database: Database
    box: SecretBox
    trail: AuditTrail

    def rotate(self, *, batch_size: int = 500, dry_run: bool = False) -> Iterator[Batch]:
        """Seal with the active key whatever another key of the ring sealed, a batch per transaction.

        Safe to end at any moment and to begin again: what is left is what has another key. It goes on until
        a pass over all rows finds nothing, or three are over. A secret that does not open stays as it is and
        is reported as a fault. Raises UnavailableError where there is no key, or no database.
        """
        if self.box.key_id is None:
            raise UnavailableError("ENCRYPTION_MASTER_KEY is not set: there is no key to rotate to")
        if batch_size < 1:
            raise InvalidInputError("batch size must be at least 1", field="batch_size")
        for _ in range(1 if dry_run else _MOST_PASSES):
            rotated = 0
            for place in secret_columns():
                for batch in self._pass(place, batch_size, dry_run=dry_run):
                    rotated += batch.rotated
                    yield batch
            if not rotated:
                return

    def verify(self, checked: Checked) -> Iterator[Fault]:
        """Open every secret and count it in `checked`; yields what does not open or has a retired key."""
        for place in secret_columns():
            for row in self._rows(place):
                key_id = _key_id(row.sealed)
                checked.total += 1
                checked.by_key[key_id] += 1
                reason = self._wrong(place, row, key_id)
                if reason:
                    yield Fault(place.table.name, place.name, row.key, reason)

    def count(self) -> Mapping[str, int]:
        """How many secrets each key has sealed, by key id."""
        counts: Counter[str] = Counter()
        for place in secret_columns():
            key_id = func.split_part(place.column, ".", 2)
            statement = select(key_id, func.count()).where(place.column.is_not(None)).group_by(key_id)
            with self.database.transaction() as session:
                counts.update({row[0]: row[1] for row in session.execute(statement)})
        return counts

    def _pass(self, column: SecretColumn, batch_size: int, *, dry_run: bool) -> Iterator[Batch]:
        last: Any = None
        while True:
            with self.database.transaction() as session:
                rows = self._stale(session, column, last, batch_size, lock=not dry_run)
                if not rows:
                    return
                fresh, faults = self._sealed_anew(column, rows)
                if fresh and not dry_run:
                    self._record(session, column, rows, _replace(session, column, fresh))
            last = rows[-1].key
            yield Batch(column.table.name, column.name, len(fresh), faults, last)

    def _stale(
        self, session: Session, column: SecretColumn, last: Any, limit: int, *, lock: bool
    ) -> Sequence[Row[Any]]:
        assert self.box.key_id is not None  # rotate has looked
        other = ~column.column.startswith(sealed_with(self.box.key_id), autoescape=True)
        statement = column.after(last, limit).where(other)
        # In the order of the keys, so that two rotations wait for each other and never in a circle.
        return session.execute(statement.with_for_update(key_share=True) if lock else statement).all()

    def _sealed_anew(
        self, column: SecretColumn, rows: Sequence[Row[Any]]
    ) -> tuple[list[tuple[Any, str, str]], list[Fault]]:
        fresh: list[tuple[Any, str, str]] = []
        faults: list[Fault] = []
        for row in rows:
            place = column.place(row)
            try:
                fresh.append(
                    (row.key, row.sealed, self.box.encrypt(self.box.decrypt(row.sealed, **place), **place))
                )
            except ExplorerError as error:
                faults.append(Fault(column.table.name, column.name, row.key, error.message))
        return fresh, faults

    def _record(self, session: Session, column: SecretColumn, rows: Sequence[Row[Any]], number: int) -> None:
        details = {
            "column": column.name,
            "count": number,
            "first": rows[0].key,
            "last": rows[-1].key,
            "from_keys": sorted({_key_id(row.sealed) for row in rows}),
            "to_key": self.box.key_id,
        }
        self.trail.record(session, "secrets.rotated", object_kind=column.table.name, details=details)

    def _rows(self, column: SecretColumn) -> Iterator[Row[Any]]:
        last: Any = None
        while True:
            with self.database.transaction() as session:
                rows = session.execute(column.after(last, _READ_AT_ONCE)).all()
            if not rows:
                return
            yield from rows
            last = rows[-1].key

    def _wrong(self, column: SecretColumn, row: Row[Any], key_id: str) -> str | None:
        try:
            self.box.decrypt(row.sealed, **column.place(row))
        except ExplorerError as error:
            return error.message
        if key_id != self.box.key_id:
            return f"it is sealed with the retired key {key_id}: run `flask secrets rotate`"
        return None


def _replace(session: Session, place: SecretColumn, fresh: Sequence[tuple[Any, str, str]]) -> int:
    """Write the new values over the old ones, and over nothing else; returns how many."""
    new = values(column("key", place.key.type), column("old", Text), column("new", Text), name="fresh").data(
        list(fresh)
    )
    # The secret is the same as before: whoever goes by `updated_at` need not look again.
    untouched = {each: each for each in place.table.columns if each.onupdate is not None}
    statement = (
        update(place.table)
        .where(place.key == new.c.key, place.column == new.c.old)
        .values({place.column: new.c.new, **untouched})
    )
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def _key_id(sealed: str) -> str:
    try:
        return key_id_of(sealed)
    except ExplorerError:
        return _UNREADABLE
