"""HTML and XHTML pages."""

from __future__ import annotations

import re
from typing import Any

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element
from app.pipeline.extraction.markup import elements_of, local_name

_DECLARED = re.compile(
    rb"""(?:charset\s*=\s*["']?|<\?xml[^>]{0,80}encoding\s*=\s*["'])([\w.:-]+)""", re.IGNORECASE
)
_HEAD_BYTES = 2048
_META = ("author", "description", "keywords", "date", "generator")


class HtmlExtractor:
    """Reads pages; scripts, styles, menus and forms are left out."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Parse leniently, as browsers do."""
        root = parse_html(decode_markup(source.path.read_bytes()))
        titles = (node for node in root.iter() if local_name(node) == "title")
        title = next(("".join(node.itertext()) for node in titles), None)
        return from_elements(
            html_elements(root),
            self._rendering,
            media_type=source.media_type,
            title=title,
            metadata=_metadata(root),
        )


def decode_markup(data: bytes) -> str:
    """Decode by byte order mark, UTF-8, the document's own declaration, or the likeliest set."""
    declared = _DECLARED.search(data[:_HEAD_BYTES])
    return decode(data, declared=declared[1].decode("ascii") if declared else None)


def parse_html(text: str) -> Any:
    """An lxml tree; raises UnreadableFileError when nothing in the text is markup."""
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)  # size is limited before
    try:
        root = html.document_fromstring(clean(text).encode() or b" ", parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise UnreadableFileError("The page holds no content", field="file") from error
    return root


def html_elements(root: Any) -> list[Element]:
    """The page's own content: its main part or single <article> where it marks one, else all of it."""
    mains = [node for node in root.iter() if local_name(node) == "main" or node.get("role") == "main"]
    articles = [node for node in root.iter() if local_name(node) == "article"]
    for nodes in (mains, articles):
        elements = list(elements_of(nodes[0])) if len(nodes) == 1 else []
        if elements:
            return elements
    return list(elements_of(root))


def _metadata(root: Any) -> dict[str, str]:
    found = {}
    for node in root.iter():
        name = (node.get("name") or "").lower() if local_name(node) == "meta" else ""
        if name in _META:
            found[name] = node.get("content") or ""
    return found
