"""The rules for what a user writes on a thing: title, details, tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TypedDict

from app.errors import InvalidInputError

TITLE_LENGTH, DETAILS_LENGTH, TAG_LENGTH, MOST_TAGS = 256, 4096, 64, 20
_LINE_BREAKS = frozenset("\t\n\r")


class DescribedChanges(TypedDict, total=False):
    """What may be changed on a collection or dataset; a missing key leaves the value as it is."""

    title: str
    details: str | None
    tags: list[str]
    is_public: bool


def check_title(title: str, *, field: str = "title") -> str:
    """The title without outer blanks; raises InvalidInputError."""
    trimmed = title.strip()
    if not trimmed:
        raise InvalidInputError(f"{field} must not be empty", field=field)
    if len(trimmed) > TITLE_LENGTH:
        raise InvalidInputError(
            f"{field} must have at most {TITLE_LENGTH} characters, not {len(trimmed)}", field=field
        )
    _refuse_controls(trimmed, field)
    return trimmed


def check_details(details: str | None) -> str | None:
    """The details, None when blank; raises InvalidInputError."""
    trimmed = (details or "").strip()
    if len(trimmed) > DETAILS_LENGTH:
        raise InvalidInputError(
            f"details must have at most {DETAILS_LENGTH} characters, not {len(trimmed)}", field="details"
        )
    _refuse_controls(trimmed, "details", allowed=_LINE_BREAKS)
    return trimmed or None


def check_tags(tags: Iterable[str]) -> list[str]:
    """The tags without blanks and doubles, in order; raises InvalidInputError."""
    kept = list(dict.fromkeys(tag.strip() for tag in tags))
    if len(kept) > MOST_TAGS:
        raise InvalidInputError(f"tags: at most {MOST_TAGS} are allowed, not {len(kept)}", field="tags")
    for tag in kept:
        if not tag or len(tag) > TAG_LENGTH:
            raise InvalidInputError(
                f"tags: each must have 1 to {TAG_LENGTH} characters, not {len(tag)}", field="tags"
            )
        _refuse_controls(tag, "tags")
    return kept


def checked(changes: DescribedChanges) -> DescribedChanges:
    """The same changes after all rules; raises InvalidInputError."""
    result = changes.copy()
    if "title" in result:
        result["title"] = check_title(result["title"])
    if "details" in result:
        result["details"] = check_details(result["details"])
    if "tags" in result:
        result["tags"] = check_tags(result["tags"])
    return result


def check_search(term: str | None) -> str | None:
    """A search term for titles, None when blank; raises InvalidInputError."""
    trimmed = (term or "").strip()
    if len(trimmed) > TITLE_LENGTH:
        raise InvalidInputError(
            f"search must have at most {TITLE_LENGTH} characters, not {len(trimmed)}", field="search"
        )
    _refuse_controls(trimmed, "search")
    return trimmed or None


def _refuse_controls(value: str, field: str, *, allowed: frozenset[str] = frozenset()) -> None:
    # Cs: a lone surrogate is not text and no database takes it.
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in allowed for char in value):
        raise InvalidInputError(f"{field} must not hold control characters", field=field)
