"""Dead letters as lines of JSON, one a line, for other tools."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from app.security.principal import Principal
from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetters, DeadLetterView

_AT_ONCE = 500


def plain(value: Any) -> Any:
    """A dataclass as JSON: times in ISO's format, ids as texts."""
    return json.loads(json.dumps(asdict(value), default=_text))


def export(
    letters: DeadLetters, principal: Principal, wanted: LetterFilter, *, payloads: bool = False
) -> Iterator[str]:
    """The letters that match, secrets masked, with what they hold on demand.

    Reading what they hold is one call to NATS for each. Raises InvalidInputError, UnavailableError.
    """
    found = letters.iterate(principal, wanted)
    while part := list(itertools.islice(found, _AT_ONCE)):
        ids = {each.dead_letter_id for each in part} | {each.parent_id or 0 for each in part}
        origins = letters.origins(ids)
        for letter in part:
            yield _line(letters, letter, origins, payloads=payloads)


def _line(letters: DeadLetters, letter: DeadLetterView, origins: Mapping[int, str], *, payloads: bool) -> str:
    line = plain(letter)
    line["origin"] = origins.get(letter.dead_letter_id)
    line["parent_origin"] = origins.get(letter.parent_id or 0)
    if payloads:
        content, gone = letters.contents.read(letter)
        line["content"] = plain(content) if content is not None else None
        line["content_gone"] = gone
    return json.dumps(line, ensure_ascii=False) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
