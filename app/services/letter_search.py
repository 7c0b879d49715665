"""Dead letters by what somebody types: words of their error, document, kind and owner, or an id of theirs."""

from __future__ import annotations

import re
from uuid import UUID

from sqlalchemy import ColumnElement, cast, func, literal_column, or_
from sqlalchemy.dialects.postgresql import TSQUERY

from app.errors import InvalidInputError
from app.storage.postgres.tables import DeadLetterRow
from app.storage.postgres.tables.dead_letters import LETTER_WORDS, WORD_BREAKS

_SHORTEST_BEGINNING = 3  # shorter ones begin too many words
_MOST_WORDS, _MOST_CHARACTERS = 20, 200
_BLANKS = str.maketrans(dict.fromkeys(WORD_BREAKS, " "))
_WORDS: ColumnElement[str] = literal_column(LETTER_WORDS)
_TRACE, _FINGERPRINT = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_LARGEST_ID = 2**63 - 1


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
    words = asked.translate(_BLANKS).split()
    if not words:
        raise InvalidInputError("search must hold a letter or a digit", field="search")
    query = " & ".join(f"'{word}'{_going_on(word)}" for word in words[:_MOST_WORDS])
    return _WORDS.bool_op("@@")(cast(func.lower(query), TSQUERY))


def _going_on(word: str) -> str:
    return ":*" if len(word) >= _SHORTEST_BEGINNING and not word.isdigit() else ""
