"""Which dead letters: the filters of the list, of bulk jobs and of exports, and who may see which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, true

from app.errors import InvalidInputError
from app.security.principal import Principal, Role
from app.services.letter_search import found_by
from app.services.storable import check_storable
from app.storage.postgres.tables import DeadLetterRow
from app.storage.postgres.tables.dead_letters import LETTER_REASONS, LETTER_STATES

_EXPIRES_SOON = timedelta(days=3)
_EXACT = ("state", "fingerprint", "reason", "actor", "queue", "pool", "owner_id", "worker", "trace_id",
          "message_id", "error_class", "bulk_id")  # fmt: skip
# What is longer is no argument of ours, and what is larger no number of Postgres.
_ARGUMENT_CHARACTERS = 500
_MOST = {"attempts": 1_000_000, "bulk_id": 2**62, "younger_than": 1e9, "older_than": 1e9}
_CLOSED = {"state": LETTER_STATES, "reason": LETTER_REASONS}


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; None means any. Ages are in seconds since death.

    `argument` is a path in the job's arguments and its value, e.g. "file_id=7" or "keys.0=files/9"; the value
    is JSON, or a text where it is none. `attempts` is the fewest attempts.
    `search` is what somebody typed (letter_search).
    """

    state: str | None = "open"
    fingerprint: str | None = None
    reason: str | None = None
    actor: str | None = None
    queue: str | None = None
    pool: str | None = None
    owner_id: str | None = None
    job_id: str | None = None
    message_id: str | None = None
    worker: str | None = None
    trace_id: str | None = None
    error_class: str | None = None
    argument: str | None = None
    search: str | None = None
    attempts: int | None = None
    younger_than: float | None = None
    older_than: float | None = None
    bulk_id: int | None = None

    def check(self) -> None:
        """Raise InvalidInputError for a value that no letter can have."""
        for name, value in asdict(self).items():
            check_storable(value, name)
        for name, most in _MOST.items():
            if not 0 <= (getattr(self, name) or 0) <= most:
                raise InvalidInputError(f"{name} must lie between 0 and {most:.0f}", field=name)
        for name, words in _CLOSED.items():
            value = getattr(self, name)
            if value is not None and value not in words:
                raise InvalidInputError(f"{name} must be one of {', '.join(words)}", field=name)
        list(self._conditions())

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for SQL; raises InvalidInputError."""
        self.check()
        return list(self._conditions())

    def given(self) -> dict[str, Any]:
        """What is asked for, as JSON; `of` reads it back."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "state"}

    @classmethod
    def of(cls, given: dict[str, Any]) -> LetterFilter:
        """The filter that `given` was written of; fields of other releases are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known})

    def _conditions(self) -> Iterator[ColumnElement[bool]]:
        row = DeadLetterRow
        for name in _EXACT:
            if (value := getattr(self, name)) is not None:
                yield getattr(row, name) == value
        if self.job_id is not None:
            yield row.job_id == _uuid(self.job_id)
        if self.argument is not None:
            yield row.arguments.contains(_nested(self.argument))
        if self.search is not None:
            yield found_by(self.search)
        if self.attempts is not None:
            yield row.attempts >= self.attempts
        yield from self._ages()

    def _ages(self) -> Iterator[ColumnElement[bool]]:
        died_at = DeadLetterRow.died_at
        if self.younger_than is not None:
            yield died_at > func.now() - timedelta(seconds=self.younger_than)
        if self.older_than is not None:
            yield died_at < func.now() - timedelta(seconds=self.older_than)


def visible_to(principal: Principal) -> ColumnElement[bool]:
    """Which letters a principal may see: an admin all, nobody's among them; else those of one's own jobs."""
    return true() if principal.role.covers(Role.ADMIN) else DeadLetterRow.owner_id == principal.owner_id


def expiring_unread() -> list[ColumnElement[bool]]:
    """Letters that nobody has opened and that the server removes within three days."""
    row = DeadLetterRow
    return [row.state == "open", row.read_at.is_(None), row.expires_at < func.now() + _EXPIRES_SOON]


def position(row_token: str) -> tuple[datetime, int]:
    """Where a page ended; raises InvalidInputError for a token that we did not make."""
    moment, _, number = row_token.partition("|")
    try:
        return datetime.fromisoformat(moment), int(number)
    except ValueError:
        raise InvalidInputError(
            "continuation_token was not made by this server", field="continuation_token"
        ) from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInputError("job_id must be a UUID", field="job_id") from None


def _nested(argument: str) -> Any:
    """The JSON that holds the value at the path; a number in the path stands for any place of a list."""
    if len(argument) > _ARGUMENT_CHARACTERS:
        raise InvalidInputError(
            f"argument must have at most {_ARGUMENT_CHARACTERS} characters", field="argument"
        )
    path, equals, raw = argument.partition("=")
    if not equals or not path:
        raise InvalidInputError("argument must read path=value, e.g. file_id=7", field="argument")
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw
    check_storable(value, "argument")
    for word in reversed(path.split(".")):
        value = [value] if word.isdecimal() else {word: value}
    return value
