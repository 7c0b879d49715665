"""Lines of an export of dead letters, read back: what each must hold, and the letter that it makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from app.errors import InvalidInputError
from app.security.masking import MASK
from brokers import DeadLetter, Provenance
from brokers.jetstream.burial import replays_of

_Text = Annotated[str, Field(max_length=100_000)]
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # they become headers as they are
_Name = Annotated[str, Field(max_length=2_000, pattern=_PRINTABLE)]
_JSON = "application/json"
_Number = Annotated[int, Field(ge=0, le=2**53)]


class ExportedContent(BaseModel):
    """What a letter held; see LetterContent."""

    payload: Any
    content_type: _Name = _JSON
    payload_hex: Annotated[str, Field(pattern=r"^[0-9a-f ]*$")] | None
    trace: _Text
    attempts: list[dict[str, Any]]
    origin_stream: _Name
    origin_sequence: _Number


class ExportedLetter(BaseModel):
    """What is needed of a line; see DeadLetterView. `content` is null where the letter was gone already."""

    origin: Annotated[str, Field(pattern=r"^.{1,200}:\d{1,18}$")]
    parent_origin: _Name | None
    state: _Name
    reason: _Name
    actor: _Text | None
    queue: Annotated[str, Field(min_length=1, max_length=2_000, pattern=_PRINTABLE)]
    message_id: _Text | None
    error_class: _Name | None
    error_message: _Text
    worker: _Name
    trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None
    size_bytes: _Number
    died_at: AwareDatetime
    depth: Annotated[int, Field(ge=0, le=10_000)]
    content: ExportedContent | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an export, by its number from 1."""

    number: int
    letter: ExportedLetter

    @property
    def hindrance(self) -> str | None:
        """Why it cannot be brought back, whatever is here already."""
        if self.letter.state != "open":
            return f"it was {self.letter.state} when it was exported"
        if self.letter.content is None:
            return "it had left its stream when it was exported"
        if MASK in json.dumps(self.letter.content.payload, ensure_ascii=False):
            return "secrets in its payload were masked when it was exported"
        if self.letter.content.content_type != _JSON and self.letter.content.payload_hex is None:
            return "its payload, which is no message, was hidden when it was exported"
        return None


def parsed(lines: Iterable[str | bytes], *, most: int) -> list[Line]:
    """Lines that hold something; raises InvalidInputError for one that is no letter, and for too many."""
    found: list[Line] = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        if len(found) == most:
            raise InvalidInputError(f"there are more than {most:,} letters: import them in parts")
        found.append(Line(number, _letter(number, text)))
    return found


def _letter(number: int, text: str | bytes) -> ExportedLetter:
    try:
        return ExportedLetter.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        hint = ": export with payloads" if field == "content" and first["type"] == "missing" else ""
        message = f"line {number}: {field or 'the line'}: {first['msg']}{hint}"
        raise InvalidInputError(message, field=field or None) from None


def letter_of_line(letter: ExportedLetter, content: ExportedContent) -> DeadLetter:
    """The letter as it was, with its payload and where it comes from; its id is that of its first life."""
    raw = _raw(content)
    return DeadLetter(
        id=0,
        queue=letter.queue,
        reason=letter.reason,
        actor=letter.actor,
        message_id=letter.message_id,
        error_class=letter.error_class,
        error_message=letter.error_message,
        trace=content.trace,
        attempts=content.attempts,
        origin_stream=content.origin_stream,
        origin_sequence=content.origin_sequence,
        dead_at=letter.died_at,
        worker=letter.worker,
        size_bytes=letter.size_bytes,
        # Of the trace context the id alone is kept.
        traceparent=f"00-{letter.trace_id}-{'0' * 15}1-00" if letter.trace_id else None,
        replays=_replays(content.payload),
        truncated_bytes=max(0, letter.size_bytes - len(raw)) if content.payload_hex is not None else 0,
        payload=raw,
        provenance=Provenance(letter.origin, letter.parent_origin, letter.depth),
    )


def _raw(content: ExportedContent) -> bytes:
    if content.payload_hex is not None:
        return bytes.fromhex(content.payload_hex)
    return json.dumps(content.payload, separators=(",", ":")).encode()


def _replays(payload: Any) -> int:
    options = payload.get("options") if isinstance(payload, Mapping) else None
    return replays_of(options) if isinstance(options, dict) else 0
