"""Puts a document together: text, blocks, title, bounded metadata, language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import TooLargeError, UnreadableFileError
from app.pipeline.document import Block, BlockKind, Document, Part
from app.pipeline.extraction.characters import clean
from app.pipeline.extraction.config import ExtractionConfig, Rendering
from app.pipeline.extraction.context import ExtractionLimits
from app.pipeline.extraction.elements import Element, compose

_METADATA_KEYS = 64
_METADATA_CHARACTERS = 1000
_TITLE_CHARACTERS = 300
_WARNINGS = 50
_LANGUAGE_LETTERS = 60
_LANGUAGE_SAMPLE = 4000
_HIGHEST_LEVEL = 6


def from_elements(
    elements: Iterable[Element],
    rendering: Rendering,
    *,
    media_type: str,
    title: str | None = None,
    page_count: int | None = None,
    metadata: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Document:
    """A document whose text is written from structured pieces."""
    text, blocks = compose(elements, rendering)
    return Document(
        text=text,
        blocks=blocks,
        media_type=media_type,
        title=title,
        page_count=page_count,
        metadata=dict(metadata or {}),
        warnings=tuple(warnings),
    )


def paragraphs(text: str, *, kind: BlockKind = "paragraph", offset: int = 0) -> Iterator[Block]:
    """Blocks over runs of lines without a blank line between them."""
    start: int | None = None
    end = position = 0
    for line in text.splitlines(keepends=True):
        inner = line.strip()
        if inner:
            first = position + line.index(inner[0])
            start = first if start is None else start
            end = position + len(line.rstrip())
        elif start is not None:
            yield Block(kind, offset + start, offset + end)
            start = None
        position += len(line)
    if start is not None:
        yield Block(kind, offset + start, offset + end)


def finish(document: Document, config: ExtractionConfig, limits: ExtractionLimits, name: str) -> Document:
    """Bound and complete a document: title, language, metadata, its file, the appended section.

    Raises UnreadableFileError for a file without any text and TooLargeError past `text_characters`.
    """
    if not document.text.strip():
        raise UnreadableFileError(f"{name} holds no text", field="file")
    if len(document.text) > limits.text_characters:
        raise TooLargeError(
            f"{name} holds {len(document.text)} characters of text; the limit is {limits.text_characters}",
            field="file",
        )
    metadata = bounded(document.metadata)
    document = replace(
        document,
        title=_title(document),
        language=document.language or language_of(document.text),
        metadata=metadata if config.options.include_metadata else {},
        parts=document.parts or (Part(name, document.media_type, 0, len(document.text)),),
        warnings=_bounded_warnings(document.warnings),
    )
    if config.options.append_metadata_to_text and metadata:
        document = _with_metadata_section(document, metadata, config.rendering())
    return document


def bounded(metadata: Mapping[str, str]) -> dict[str, str]:
    """At most 64 entries of at most 1,000 characters, without control characters or empty values."""
    pairs = ((key[:100], clean(value).strip()[:_METADATA_CHARACTERS]) for key, value in metadata.items())
    return dict([(key, value) for key, value in pairs if value][:_METADATA_KEYS])


def language_of(text: str) -> str | None:
    """ISO 639-1 code of the text's main language; None for too little text to tell."""
    middle = max(0, len(text) // 2 - _LANGUAGE_SAMPLE // 2)
    sample = text[:_LANGUAGE_SAMPLE] + " " + text[max(_LANGUAGE_SAMPLE, middle) :][:_LANGUAGE_SAMPLE]
    if sum(map(str.isalpha, sample)) < _LANGUAGE_LETTERS:
        return None
    import py3langid

    code, _ = py3langid.classify(sample)
    return str(code)


@dataclass(frozen=True, slots=True)
class Merged:
    """Several documents as sections of one text."""

    text: str
    blocks: tuple[Block, ...]
    parts: tuple[Part, ...]

    def after(self, offset: int) -> Merged:
        """The same behind `offset` other characters."""
        blocks = (replace(each, start=each.start + offset, end=each.end + offset) for each in self.blocks)
        return Merged(self.text, tuple(blocks), tuple(_moved(self.parts, offset)))


def merge(documents: Iterable[tuple[str, Document]], rendering: Rendering) -> Merged:
    """Each document under a level-1 heading with its name."""
    texts: list[str] = []
    blocks: list[Block] = []
    parts: list[Part] = []
    length = 0
    for name, document in documents:
        head, head_blocks = compose([Element("heading", name, level=1)], rendering)
        lead = ("\n\n" if texts else "") + head + "\n\n"
        blocks += [_shifted(block, length + len(lead) - len(head) - 2, 0) for block in head_blocks]
        length += len(lead)
        blocks += [_shifted(block, length, 1) for block in document.blocks]
        parts += _moved(document.parts, length)
        texts += [lead, document.text]
        length += len(document.text)
    return Merged("".join(texts), tuple(blocks), tuple(parts))


def _moved(parts: Iterable[Part], offset: int) -> Iterator[Part]:
    return (replace(part, start=part.start + offset, end=part.end + offset) for part in parts)


def _shifted(block: Block, offset: int, levels: int) -> Block:
    level = min(_HIGHEST_LEVEL, block.level + levels) if block.kind == "heading" else 0
    return Block(block.kind, block.start + offset, block.end + offset, level, block.page)


def _title(document: Document) -> str | None:
    title = " ".join(clean(document.title or "").split())
    if not title:
        heading = next((block for block in document.blocks if block.kind == "heading"), None)
        title = " ".join(document.text[heading.start : heading.end].split()) if heading else ""
    return title[:_TITLE_CHARACTERS] or None


def _bounded_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    if len(warnings) <= _WARNINGS:
        return tuple(warnings)
    return (*warnings[:_WARNINGS], f"… and {len(warnings) - _WARNINGS} more")


def _with_metadata_section(document: Document, metadata: Mapping[str, str], rendering: Rendering) -> Document:
    lines = [Element("list_item", f"{key}: {' '.join(value.split())}") for key, value in metadata.items()]
    text, blocks = compose([Element("heading", "Document metadata", level=1), *lines], rendering)
    offset = len(document.text) + 2
    shifted = tuple(_shifted(block, offset, 0) for block in blocks)
    return replace(document, text=f"{document.text}\n\n{text}", blocks=(*document.blocks, *shifted))
