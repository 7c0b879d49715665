"""Rows by id and owner: what is somebody else's is not there."""

from __future__ import annotations

from contextvars import ContextVar, Token
from datetime import datetime
from functools import cache
from typing import TypeVar

from sqlalchemy import Connection, Select, bindparam, inspect, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import NotFoundError, PreconditionFailedError
from app.storage.postgres.tables import (
    ChatSession,
    Collection,
    CollectionTransform,
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    EmbedderRow,
    File,
    Item,
    LlmRow,
    Visualization,
    VisualizationTransform,
)

T = TypeVar(
    "T",
    ChatSession,
    Collection,
    CollectionTransform,
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    EmbedderRow,
    File,
    Item,
    LlmRow,
    Visualization,
    VisualizationTransform,
)
Shared = TypeVar("Shared", Collection, Dataset, EmbedderRow, LlmRow)

_NOUNS: dict[type, str] = {
    ChatSession: "chat session",
    Collection: "collection",
    CollectionTransform: "collection transform",
    Dataset: "dataset",
    DatasetTransform: "dataset transform",
    EmbeddedDataset: "embedded dataset",
    EmbedderRow: "embedder",
    File: "file",
    Item: "item",
    LlmRow: "LLM",
    Visualization: "visualization",
    VisualizationTransform: "visualization transform",
}


# What the client of an edit has read: when the first row that it locks must have changed last.
_expected: ContextVar[datetime | None] = ContextVar("expected", default=None)


def expect_unchanged(since: datetime) -> Token[datetime | None]:
    """Let the next row that is locked be refused if it changed after that; undo by `forget_expected`."""
    return _expected.set(since)


def forget_expected(token: Token[datetime | None]) -> None:
    """Ask nothing of later rows."""
    _expected.reset(token)


def owned(
    session: Session, table: type[T], key: int, owner_id: str, *, lock: bool = False, field: str | None = None
) -> T:
    """The owner's row with this id; raises NotFoundError (with `field`, where a body named the id).

    With `lock` it stays as it is until the transaction ends; raises PreconditionFailedError when it is not
    what its client has read.
    """
    statement = select(table).where(_key(table) == key, table.owner_id == owner_id)
    if not lock:
        return _one(session, statement, table, key, field)
    row = _one(session, statement.with_for_update(key_share=True), table, key, field)
    _refuse_changed(row)
    return row


def held(session: Session, table: type[T], key: int, owner_id: str) -> T:
    """As `owned`; nobody changes or deletes the row until the transaction ends, runs under it go on."""
    statement = select(table).where(_key(table) == key, table.owner_id == owner_id)
    return _one(session, statement.with_for_update(read=True), table, key, None)


def readable(session: Session, table: type[Shared], key: int, owner_id: str) -> Shared:
    """The owner's row, or anybody's that is public; raises NotFoundError."""
    statement = select(table).where(_key(table) == key, or_(table.owner_id == owner_id, table.is_public))
    return _one(session, statement, table, key, None)


def expect_readable(connection: Connection, table: type[Shared], key: int, owner_id: str) -> None:
    """Raise NotFoundError unless the row is the owner's, or anybody's that is public."""
    if connection.scalar(_readable_key(table), {"key": key, "owner_id": owner_id}) is None:
        raise missing(table, key)


def missing(table: type[T], key: int, *, field: str | None = None) -> NotFoundError:
    """To be raised where there is no such row, or none for whoever asks."""
    return NotFoundError(f"no {_NOUNS[table]} {key}", field=field)


@cache
def _readable_key(table: type[Shared]) -> Select[tuple[int]]:
    mine_or_public = or_(table.owner_id == bindparam("owner_id"), table.is_public)
    return select(_key(table)).where(_key(table) == bindparam("key"), mine_or_public)


def _refuse_changed(row: T) -> None:
    since = _expected.get()
    if since is None:
        return
    _expected.set(None)  # the others that an edit locks were not read by its client
    if getattr(row, "updated_at", since) != since:
        raise PreconditionFailedError("this has changed since you read it: read it again", field="If-Match")


def _key(table: type[T]) -> InstrumentedAttribute[int]:
    column = inspect(table).primary_key[0]
    attribute: InstrumentedAttribute[int] = getattr(table, str(column.key))
    return attribute


def _one(session: Session, statement: Select[tuple[T]], table: type[T], key: int, field: str | None) -> T:
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise missing(table, key, field=field)
    return row
