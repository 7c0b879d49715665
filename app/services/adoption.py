"""Giving everything that one owner has to another: what a single user made, to the person who signs in now.

First the rows, with the secrets bound to them, in one transaction; then the owner that every vector names,
index by index. Cut short after the first part, the same call does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, Table, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.security.crypto import SecretBox
from app.services.audit_trail import AuditTrail
from app.services.secrets import SecretColumn, secret_columns
from app.storage.filters import Equal
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ACTIVE_STATES, Base, EmbeddedDataset, Job, Owner, User
from app.storage.qdrant import VectorStore

# A person's own: who they are, how they come in, what they asked for; and the past, which stays as it was.
_STAYS = frozenset(
    {
        *("owners", "users", "sessions", "api_tokens", "audit_events", "idempotent_requests"),
        *("dead_letters", "dead_letter_groups", "dead_letter_hours", "dead_letter_bulks"),
    }
)
_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was given, or would be: rows by table, and vectors."""

    owner_id: str
    rows: Mapping[str, int]
    vectors: int


@dataclass(frozen=True, slots=True)
class Adoption:
    """The verb, for operators."""

    database: Database
    secrets: SecretBox
    trail: AuditTrail
    vectors: VectorStore

    def person(self, named: str) -> str:
        """The owner id of a person who has signed in, by id, user name or mail address.

        Raises NotFoundError, and InvalidInputError where the name stands for several.
        """
        statement = select(User.owner_id).where(
            or_(User.owner_id == named, User.username == named, User.email == named)
        )
        with self.database.transaction() as session:
            found = session.scalars(statement).all()
        if not found:
            raise NotFoundError(f"nobody called {named!r} has signed in yet: they must once, before this")
        if len(found) > 1:
            raise InvalidInputError(
                f"{named!r} are {len(found)} people: name one by owner id: {', '.join(found)}"
            )
        return found[0]

    def adopt(self, source: str, target: str, *, dry_run: bool) -> Adopted:
        """Give all that `source` has to `target`, who keeps what they have.

        Raises NotFoundError, InvalidInputError, ConflictError while work of `source` is under way, and
        UnavailableError.
        """
        if source == target:
            raise InvalidInputError("both are the same owner")
        with self.database.transaction() as session:
            rows = self._count(session, source) if dry_run else self._give_rows(session, source, target)
        moved = 0
        for index in self._indexes(source if dry_run else target):
            moved += (
                self._count_vectors(index, source) if dry_run else self._give_vectors(index, source, target)
            )
        return Adopted(target, rows, moved)

    def _count(self, session: Session, source: str) -> dict[str, int]:
        counts = {
            table.name: session.scalar(select(func.count()).where(table.c.owner_id == source)) or 0
            for table in _tables()
        }
        return {name: number for name, number in counts.items() if number}

    def _give_rows(self, session: Session, source: str, target: str) -> dict[str, int]:
        _hold(session, source, target)
        given = {}
        try:
            for column in secret_columns():
                if column.table.name not in _STAYS:
                    self._bind(session, column, source, target)
            for table in _tables():
                result = session.execute(
                    update(table).where(table.c.owner_id == source).values(_as_it_was(table, owner_id=target))
                )
                given[table.name] = cast("CursorResult[Any]", result).rowcount
        except IntegrityError as error:
            raise ConflictError(f"{target} has something that {source} has, too: {error.orig}") from error
        given = {name: number for name, number in given.items() if number}
        if given:
            details = {"from": source, "rows": sum(given.values()), "tables": sorted(given)}
            self.trail.record(session, "owner.adopted", owner_id=target, details=details)
        return given

    def _bind(self, session: Session, column: SecretColumn, source: str, target: str) -> None:
        """Seal the secrets anew: each is bound to its owner, and opens for nobody else."""
        for row in session.execute(
            column.after(None, 2**31 - 1).where(column.table.c.owner_id == source)
        ).all():
            place = column.place(row)
            fresh = self.secrets.encrypt(
                self.secrets.decrypt(row.sealed, **place), **{**place, "owner": target}
            )
            session.execute(
                update(column.table)
                .where(column.key == row.key)
                .values(_as_it_was(column.table, **{column.column.name: fresh}))
            )

    def _indexes(self, owner_id: str) -> list[str]:
        mine = select(EmbeddedDataset.collection_name).where(EmbeddedDataset.owner_id == owner_id)
        with self.database.transaction() as session:
            return list(session.scalars(mine.order_by(EmbeddedDataset.embedded_dataset_id)))

    def _count_vectors(self, index: str, source: str) -> int:
        return self.vectors.count(index, Equal("owner_id", source)) if self.vectors.exists(index) else 0

    def _give_vectors(self, index: str, source: str, target: str) -> int:
        moved = 0
        if not self.vectors.exists(index):  # it is made with its first vectors
            return moved
        while points := self.vectors.scroll(index, limit=_POINTS, filters=Equal("owner_id", source)).points:
            self.vectors.replace_payloads(
                index, {point.id: {**point.payload, "owner_id": target} for point in points}
            )
            moved += len(points)
        return moved


def _tables() -> list[Table]:
    return [
        table
        for table in Base.metadata.sorted_tables
        if "owner_id" in table.columns and table.name not in _STAYS
    ]


def _as_it_was(table: Table, **changes: Any) -> dict[Any, Any]:
    """The changes, and nothing of what an update changes by itself: nobody has edited these rows."""
    kept = {column: column for column in table.columns if column.onupdate is not None}
    return {**kept, **{table.columns[name]: value for name, value in changes.items()}}


def _hold(session: Session, source: str, target: str) -> None:
    """Keep both owners where they are, and refuse what a worker could still write for the old one."""
    held = select(Owner.owner_id).where(Owner.owner_id.in_((source, target))).with_for_update()
    if target not in session.scalars(held).all():
        raise NotFoundError(f"no owner {target}")
    active = select(func.count()).where(Job.owner_id == source, Job.state.in_(ACTIVE_STATES))
    if number := session.scalar(active):
        raise ConflictError(
            f"{number} jobs of {source} are under way: let workers finish them, or cancel them, and try again"
        )
