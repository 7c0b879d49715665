"""The tags of an item: what its metadata holds under `tags` or `keywords`, as pushed or as its file says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.services.described import MOST_TAGS, TAG_LENGTH

# The last two are what Apache Tika calls them.
_NAMES = frozenset({"tags", "keywords", "meta:keyword", "dc:subject"})
_BETWEEN = re.compile(r"[,;]")
_AROUND = " \t\r\n\"'"


def tags_of(metadata: Mapping[str, Any]) -> list[str]:
    """At most 20 texts of at most 64 characters, in order and once each.

    Each comes from a list of texts, or from a text with commas or semicolons, which may stand in brackets.
    """
    given = (value for name, value in metadata.items() if name.lower() in _NAMES)
    found = dict.fromkeys(tag for value in given for part in _parts(value) if (tag := _tag(part)))
    return list(found)[:MOST_TAGS]


def hashed_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """What the tags add to an item's content hash, so that its vectors are found by the new ones.

    Nothing where there are none. With a NUL, which no text holds.
    """
    return (f"\0tags{json.dumps(tags)}",) if tags else ()


def _parts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return _BETWEEN.split(value.strip().removeprefix("[").removesuffix("]"))
    return (part for part in value if isinstance(part, str)) if isinstance(value, list) else ()


def _tag(part: str) -> str | None:
    """The text without quotes, in one line; None for one that is too long for a tag."""
    text = " ".join(part.strip(_AROUND).split())
    return text if len(text) <= TAG_LENGTH else None
