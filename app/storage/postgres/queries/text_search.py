"""Passages by their words, through the index of words on chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.storage.filters import AllOf, AnyOf, DateRange, Equal, Filters, Not, NumberRange, OneOf
from app.storage.postgres.tables import ChunkRow, Item
from app.storage.postgres.tables.datasets import WORDS

# Ranking reads a passage anew, so of a word that is everywhere only some are ranked. Each word has its own
# limit, that a frequent one does not crowd out a rare one; those with all the words have theirs, too.
_MOST_RANKED = 200
_SHORTEST_BEGINNING = 4  # of what may go on: shorter ones begin too many words
_BY_LENGTH = 1  # divide by 1 + log of the length: a long passage holds more words by chance
_LANGUAGE: ColumnElement[Any] = literal_column("'simple'::regconfig")
_VECTOR: ColumnElement[Any] = literal_column(WORDS)
_COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "owner_id": Item.owner_id,
    "item_id": Item.item_id,
    "file_id": Item.file_id,
    "media_type": Item.media_type,
    "language": Item.language,
    "created_at": Item.created_at,
    "page": ChunkRow.page,
}


def passages_with_words(
    session: Session, dataset_id: int, words: Sequence[str], filters: Filters, *, limit: int
) -> list[UUID]:
    """Chunks of the dataset that hold one of the words, or a longer one that begins like it, best first.

    `words` hold neither quotation marks nor blanks. Better are more of them, more often (Postgres' ts_rank).
    """
    if not words:
        return []
    terms = [_term(word) for word in words]
    any_word = func.to_tsquery(_LANGUAGE, " | ".join(terms))
    matching = union(
        *(
            _matching(dataset_id, func.to_tsquery(_LANGUAGE, wanted), filters)
            for wanted in dict.fromkeys([" & ".join(terms), *terms])
        )
    ).subquery()
    best = (
        select(ChunkRow.chunk_id)
        .join(matching, matching.c.chunk_id == ChunkRow.chunk_id)
        .order_by(func.ts_rank(_VECTOR, any_word, _BY_LENGTH).desc(), ChunkRow.chunk_id)
        .limit(limit)
    )
    return list(session.scalars(best))


def _term(word: str) -> str:
    goes_on = len(word) >= _SHORTEST_BEGINNING and word.isalpha()
    return f"'{word}':*" if goes_on else f"'{word}'"


def _matching(dataset_id: int, query: ColumnElement[Any], filters: Filters) -> Select[tuple[UUID]]:
    some = (
        select(ChunkRow.chunk_id)
        .join(Item, Item.item_id == ChunkRow.item_id)
        .where(Item.dataset_id == dataset_id, _VECTOR.bool_op("@@")(query), condition(filters))
        .limit(_MOST_RANKED)
        .subquery()
    )
    return select(some.c.chunk_id)


def condition(filters: Filters) -> ColumnElement[bool]:
    """What the filters say, of an item and its chunk."""
    match filters:
        case Equal(field, value):
            return _one_of(field, [value])
        case AnyOf(field, values):
            return _one_of(field, values)
        case NumberRange() | DateRange():
            return _within(filters)
        case AllOf(parts):
            return and_(true(), *(condition(part) for part in parts))
        case OneOf(parts):
            return or_(*(condition(part) for part in parts))
        case Not(part):
            return not_(condition(part))


def _one_of(field: str, values: Sequence[Any]) -> ColumnElement[bool]:
    if field == "tags":  # of which an item has several
        return Item.tags.bool_op("&&")(literal(list(values), ARRAY(Text)))
    return _COLUMNS[field].in_(values)


def _within(bounds: NumberRange | DateRange) -> ColumnElement[bool]:
    column = _COLUMNS[bounds.field]
    sides = (
        (bounds.gte, column.__ge__),
        (bounds.gt, column.__gt__),
        (bounds.lte, column.__le__),
        (bounds.lt, column.__lt__),
    )
    return and_(true(), *(compare(limit) for limit, compare in sides if limit is not None))
