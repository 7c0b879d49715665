"""Markdown: the text as it is, with blocks from a CommonMark parse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from app.pipeline.document import Block, BlockKind, Document
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<body>.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_ENTRY = re.compile(r"^(?P<key>\w[\w -]*):[ \t]+(?P<value>\S.*)$", re.MULTILINE)
_LEAVES: dict[str, BlockKind] = {
    "paragraph_open": "paragraph",
    "heading_open": "heading",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "html_block": "paragraph",
}


class MarkdownExtractor:
    """Reads CommonMark with tables and YAML front matter."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Headings, paragraphs, list items, tables and code become blocks; no character is changed."""
        text = clean(decode(source.path.read_bytes())).rstrip()
        front = _FRONT_MATTER.match(text)
        metadata = _front_entries(front["body"]) if front else {}
        blocks = []
        for block in markdown_blocks(text, start=front.end() if front else 0):
            kind = self._rendering.kind(block.kind)
            blocks.append(Block(kind, block.start, block.end, block.level if kind == "heading" else 0))
        return Document(
            text=text,
            blocks=tuple(blocks),
            media_type=source.media_type,
            title=metadata.get("title"),
            metadata=metadata,
        )


def _front_entries(body: str) -> dict[str, str]:
    return {entry["key"].lower(): entry["value"].strip("\"' ") for entry in _FRONT_ENTRY.finditer(body)}


def markdown_blocks(text: str, *, start: int = 0) -> Iterator[Block]:
    """Blocks over Markdown; a heading's block is its title, a code block's includes its fences."""
    from markdown_it import MarkdownIt

    body = text[start:]
    line_starts = [start, *(start + end for end in accumulate(map(len, body.splitlines(keepends=True))))]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    table_depth = list_depth = 0
    for position, token in enumerate(tokens):
        inside_table = table_depth > 0
        table_depth += token.nesting * (token.type in ("table_open", "table_close"))
        list_depth += token.nesting * (token.type in ("list_item_open", "list_item_close"))
        kind = _LEAVES.get(token.type)
        if kind is None or token.map is None or inside_table:
            continue
        first, last = token.map
        low, high = line_starts[first], line_starts[min(last, len(line_starts) - 1)]
        if kind == "heading":
            yield from _heading(text, low, high, token, tokens[position + 1].content)
        else:
            if kind == "paragraph" and list_depth:
                kind = "list_item"
            yield from _trimmed(text, low, high, kind)


def _heading(text: str, low: int, high: int, token: Token, title: str) -> Iterator[Block]:
    at = text.find(title, low, high) if title else -1
    if at >= 0:
        yield Block("heading", at, at + len(title), int(token.tag[1]))


def _trimmed(text: str, low: int, high: int, kind: BlockKind) -> Iterator[Block]:
    inner = text[low:high]
    end = low + len(inner.rstrip())
    start = low + len(inner) - len(inner.lstrip())
    if start < end:
        yield Block(kind, start, end)
