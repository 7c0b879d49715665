"""E-mail messages: subject, who and when, body, and what is attached."""

from __future__ import annotations

import email
import email.policy
import io
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage, Message
from functools import partial
from typing import IO, Any

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements, merge, paragraphs
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element
from app.pipeline.extraction.html import html_elements, parse_html
from app.pipeline.extraction.members import Member, MemberReader

_SHOWN = ("From", "To", "Cc", "Date")
_STORED = ("Subject", "From", "To", "Cc", "Date", "Message-ID", "In-Reply-To")


class MailExtractor:
    """Reads MIME messages; each attachment of a supported type becomes a section."""

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError for a file without any header."""
        message = email.message_from_bytes(source.path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)  # what policy.default makes
        headers = _headers(message)
        if not headers:
            raise UnreadableFileError(
                f"{source.name} has no mail headers: it is no e-mail message", field="file"
            )
        reader = MemberReader(self._context)
        attached = reader.read_all(_attachments(message))
        rendering = self._context.config.rendering()
        own = from_elements(_elements(message, headers), rendering, media_type=source.media_type)
        merged = merge(attached, rendering).after(len(own.text) + 2)
        return replace(
            own,
            text=f"{own.text}\n\n{merged.text}" if attached else own.text,
            blocks=(*own.blocks, *merged.blocks),
            parts=merged.parts,
            title=headers.get("Subject"),
            metadata={
                **{key.lower().replace("-", "_"): value for key, value in headers.items()},
                **({"attachments": ", ".join(name for name, _ in attached)} if attached else {}),
            },
            warnings=tuple(reader.warnings),
        )


def _headers(message: EmailMessage) -> dict[str, str]:
    found = {}
    for name in _STORED:
        try:
            value = message.get(name)
        except (ValueError, IndexError, AttributeError, TypeError):  # malformed headers break their parser
            continue
        if value:
            found[name] = " ".join(clean(str(value)).split())
    return found


def _elements(message: EmailMessage, headers: dict[str, str]) -> Iterator[Element]:
    if "Subject" in headers:
        yield Element("heading", headers["Subject"], level=1)
    yield Element("paragraph", "\n".join(f"{name}: {headers[name]}" for name in _SHOWN if name in headers))
    body = message.get_body(("plain", "html"))
    if body is None:
        return
    text = _content(body)
    if body.get_content_subtype() == "html":
        yield from html_elements(parse_html(text))
    else:
        for block in paragraphs(text):
            yield Element("paragraph", text[block.start : block.end])


def _content(part: Message[Any, Any]) -> str:
    data = part.get_payload(decode=True)
    return clean(decode(data, declared=part.get_content_charset())) if isinstance(data, bytes) else ""


def _attachments(message: EmailMessage) -> Iterator[Member]:
    for number, part in enumerate(message.iter_attachments(), start=1):
        name, data = _attachment(part, number)
        yield Member(name, len(data), partial(_stream, data))


def _attachment(part: Message[Any, Any], number: int) -> tuple[str, bytes]:
    name = part.get_filename()
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        data = inner.as_bytes() if isinstance(inner, Message) else b""
        return name or f"message {number}.eml", data
    payload = part.get_payload(decode=True)
    return name or f"attachment {number}", payload if isinstance(payload, bytes) else b""


def _stream(data: bytes) -> IO[bytes]:
    return io.BytesIO(data)
