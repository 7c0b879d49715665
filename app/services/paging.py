"""One page of a list, and the limits of asking for one."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import InvalidInputError

T = TypeVar("T")

MOST_ROWS = 1000
_MOST_OFFSET = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`items` are rows `offset` to `offset + limit` of `total_count`."""

    items: tuple[T, ...]
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None  # None at the end, and in lists without cursors

    @property
    def has_more(self) -> bool:
        """Whether rows follow this page."""
        return self.offset + len(self.items) < self.total_count


def check_window(limit: int, offset: int = 0, *, most: int = MOST_ROWS) -> None:
    """Raise InvalidInputError unless 1 ≤ limit ≤ most and offset is not negative."""
    if not 1 <= limit <= most:
        raise InvalidInputError(f"limit must lie between 1 and {most}", field="limit")
    if not 0 <= offset <= _MOST_OFFSET:
        raise InvalidInputError(f"offset must lie between 0 and {_MOST_OFFSET}", field="offset")


def continuation_token(last: str) -> str:
    """An opaque token that names the last row seen."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def after_token(token: str | None) -> str | None:
    """The last row seen; raises InvalidInputError for a token that we did not make."""
    if token is None:
        return None
    try:
        last = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidInputError(
            "continuation_token was not made by this server", field="continuation_token"
        ) from None
    if "\x00" in last:
        raise InvalidInputError("continuation_token was not made by this server", field="continuation_token")
    return last
