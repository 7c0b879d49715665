"""XML of any vocabulary: elements with text of their own are paragraphs, titles are headings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element
from app.pipeline.extraction.html import decode_markup
from app.pipeline.extraction.markup import local_name

_TITLES = frozenset(("title", "head", "heading", "h1", "h2", "h3", "h4", "h5", "h6"))


class XmlExtractor:
    """Reads well-formed XML; entities are not expanded and nothing is fetched."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError naming the line of the first mistake."""
        from lxml import etree

        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, remove_comments=True
        )
        text = _without_declaration(decode_markup(source.path.read_bytes()))
        try:
            root = etree.fromstring(text.encode(), parser)
        except etree.XMLSyntaxError as error:
            raise UnreadableFileError(f"The file is not valid XML: {error.msg}", field="file") from error
        return from_elements(
            _elements(root),
            self._rendering,
            media_type=source.media_type,
            metadata={"root": local_name(root)},
        )


def _without_declaration(text: str) -> str:
    """The declaration names the set of the bytes, which are decoded already."""
    text = text.lstrip("\ufeff \t\r\n")
    return text.partition("?>")[2] if text.startswith("<?xml") else text


def _elements(root: Any) -> Iterator[Element]:
    """Depth-first without recursion; `depth` of a title gives its level."""
    pending = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        if not local_name(node):
            continue
        if _has_own_text(node):
            text = " ".join("".join(node.itertext()).split())
            if local_name(node) in _TITLES:
                yield Element("heading", text, level=min(6, max(1, depth)))
            else:
                yield Element("paragraph", text)
        else:
            pending += [(child, depth + 1) for child in reversed(node)]


def _has_own_text(node: Any) -> bool:
    return bool((node.text or "").strip()) or any((child.tail or "").strip() for child in node)
