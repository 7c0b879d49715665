"""Dead letters by what somebody types: words of their error, document, kind and owner, or an id of theirs."""

from __future__ import annotations

import re
from uuid import UUID

from sqlalchemy import ColumnElement, cast, literal, or_, select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from app.errors import InvalidInputError
from app.jobs.letter_words import words_of
from app.storage.postgres.tables import DeadLetterRow

_SHORTEST_BEGINNING = 3  # shorter ones begin too many words
_MOST_WORDS, _MOST_CHARACTERS = 20, 200
_TRACE, _FINGERPRINT = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_LARGEST_ID = 2**63 - 1
_FEW = 1000
_ONLY_BY_INDEX = sql(
    "SELECT set_config(name, :on, true) FROM unnest(ARRAY['enable_seqscan', 'enable_indexscan']) AS name"
)


def found_by(text: str) -> ColumnElement[bool]:
    """Letters with all the words, or words that begin so (not numbers); or those that an id names.

    An id is that of a letter, a job, a message, a trace or a cause. Raises InvalidInputError.
    """
    asked = text.replace("\0", " ").strip()
    if len(asked) > _MOST_CHARACTERS:
        raise InvalidInputError(f"search takes at most {_MOST_CHARACTERS} characters", field="search")
    named = _named(asked)
    return named if named is not None else or_(*_with_number(asked), _with_words(asked))


def _named(asked: str) -> ColumnElement[bool] | None:
    """The letters of an id that is nothing else."""
    row, lower = DeadLetterRow, asked.lower()
    job_id, _, publication = lower.partition(":")
    try:
        job = UUID(job_id) if "-" in job_id else None
    except ValueError:
        job = None
    if job is not None:
        return row.message_id == lower if publication else or_(row.job_id == job, row.message_id == lower)
    if _TRACE.fullmatch(lower):
        return row.trace_id == lower
    return row.fingerprint == lower if _FINGERPRINT.fullmatch(lower) else None


def _with_number(asked: str) -> list[ColumnElement[bool]]:
    if not (asked.isascii() and asked.isdigit()) or int(asked) > _LARGEST_ID:
        return []
    return [DeadLetterRow.dead_letter_id == int(asked)]


def _with_words(asked: str) -> ColumnElement[bool]:
    words = words_of(asked)
    if not words:
        raise InvalidInputError("search must hold a letter or a digit", field="search")
    query = " & ".join(map(_term, words[:_MOST_WORDS]))
    return DeadLetterRow.words.bool_op("@@")(cast(literal(query), TSQUERY))


def _term(word: str) -> str:
    """The word, or one that begins so: both, for Postgres knows of whole words only how frequent they are."""
    goes_on = len(word) >= _SHORTEST_BEGINNING and not word.isdigit()
    return f"('{word}' | '{word}':*)" if goes_on else f"'{word}'"


def settled(session: Session, visible: ColumnElement[bool], text: str) -> ColumnElement[bool]:
    """What `found_by` says, for a page of the newest; by their numbers where few match.

    Postgres cannot know whether a word is rare, and where it guesses wrong it looks for a page of them along
    the order of death, through all. So the index is asked first, by force. Raises InvalidInputError.
    """
    condition = found_by(text)
    session.execute(_ONLY_BY_INDEX, {"on": "off"})
    matching = select(DeadLetterRow.dead_letter_id).where(visible, condition).limit(_FEW + 1)
    few = session.scalars(matching).all()
    session.execute(_ONLY_BY_INDEX, {"on": "on"})
    return DeadLetterRow.dead_letter_id.in_(few) if len(few) <= _FEW else condition
