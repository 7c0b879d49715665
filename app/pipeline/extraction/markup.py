"""Walks an HTML or XHTML tree and yields its headings, paragraphs, list items, tables and code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.pipeline.document import BlockKind
from app.pipeline.extraction.elements import Element, Row

_HIDDEN = frozenset(
    (
        *("script", "style", "noscript", "template", "nav", "head", "iframe", "object", "svg", "math"),
        *("select", "button", "form"),
    )
)
_HIDDEN_ROLES = ("navigation", "search", "menu", "menubar")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    (
        *(
            "html",
            "body",
            "main",
            "article",
            "section",
            "div",
            "p",
            "ul",
            "ol",
            "li",
            "dl",
            "dt",
            "dd",
            "table",
        ),
        *("blockquote", "pre", "address", "figure", "figcaption", "header", "footer", "aside", "details"),
        *("summary", "fieldset", "hr", "center"),
    )
)
_ITEMS = frozenset(("li", "dt", "dd"))
_AFTER = {"br": "\n", "td": " ", "th": " "}
_MAX_DEPTH = 120


def local_name(node: Any) -> str:
    """Tag without its namespace, in lower case; "" for comments and instructions."""
    tag = node.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def elements_of(root: Any) -> Iterator[Element]:
    """The readable content below `root` (an lxml element), in order."""
    yield from _Walker().walk(root)


class _Walker:
    """Collects inline text until a block begins or ends; counts pages where the source has them."""

    def __init__(self) -> None:
        self._inline: list[str] = []
        self._kind: BlockKind = "paragraph"
        self._list_depth = 0
        self._page: int | None = None
        self._slide_title = False  # the next paragraph is a slide's title

    def walk(self, root: Any) -> Iterator[Element]:
        yield from self._node(root, 0)
        yield from self._flush()

    def _flush(self) -> Iterator[Element]:
        text = tidy("".join(self._inline))
        self._inline.clear()
        if not text:
            return
        kind, level = self._kind, max(0, self._list_depth - 1) if self._kind == "list_item" else 0
        if self._slide_title:
            kind, level, self._slide_title = "heading", 2, False
        yield Element(kind, text, level=level, page=self._page)

    def _node(self, node: Any, depth: int) -> Iterator[Element]:
        name = local_name(node)
        if _is_hidden(node, name):
            return
        if depth > _MAX_DEPTH:
            self._inline.append("".join(node.itertext()))
        elif name in _HEADINGS:
            yield from self._heading(node, _HEADINGS[name])
        elif name == "pre":
            yield from self._flush()
            yield Element("code", "".join(node.itertext()), page=self._page)
        elif name == "table" and not _is_layout(node):
            yield from self._flush()
            yield Element("table", rows=rows_of(node), page=self._page)
        elif name in _BLOCKS:
            yield from self._block(node, name, depth)
        else:
            yield from self._children(node, depth)
            self._inline.append(_AFTER.get(name, ""))

    def _heading(self, node: Any, level: int) -> Iterator[Element]:
        yield from self._flush()
        title = " ".join("".join(node.itertext()).split()).rstrip("¶ ")  # the mark of links to headings
        if title:
            self._slide_title = False
            yield Element("heading", title, level=level, page=self._page)

    def _block(self, node: Any, name: str, depth: int) -> Iterator[Element]:
        yield from self._flush()
        kind, list_depth = self._kind, self._list_depth
        classes = (node.get("class") or "").split()
        self._begin_page(classes)
        if name in ("ul", "ol"):
            self._list_depth += 1
        if name in _ITEMS or (name == "p" and any(item.startswith("list_") for item in classes)):
            self._kind = "list_item"  # Tika names Word's list paragraphs by their style
        elif name == "p" and _is_title(classes):
            self._slide_title = True
        yield from self._children(node, depth)
        yield from self._flush()
        self._kind, self._list_depth = kind, list_depth

    def _begin_page(self, classes: list[str]) -> None:
        """Tika wraps a slide in div.slide-content and a page in div.page."""
        if "slide-content" in classes or "page" in classes:
            self._page = (self._page or 0) + 1
            self._slide_title = "slide-content" in classes

    def _children(self, node: Any, depth: int) -> Iterator[Element]:
        self._inline.append(_blanks(node.text))
        for child in node:
            yield from self._node(child, depth + 1)
            self._inline.append(_blanks(child.tail))


def _is_hidden(node: Any, name: str) -> bool:
    if not name or name in _HIDDEN or node.get("hidden") is not None or node.get("aria-hidden") == "true":
        return True
    return node.get("role") in _HIDDEN_ROLES or node.get("class") == "headerlink"


def _is_title(classes: list[str]) -> bool:
    return "title" in classes


def _blanks(text: str | None) -> str:
    """Outside <pre> a line end is a blank; a line feed then stands for <br> only."""
    return text.replace("\n", " ").replace("\r", " ") if text else ""


def tidy(text: str) -> str:
    """Collapse blanks within lines and drop empty lines."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _is_layout(table: Any) -> bool:
    """A table that holds tables or headings arranges a page; it is not data."""
    return any(
        local_name(node) in _HEADINGS or local_name(node) == "table" for node in table.iterdescendants()
    )


def rows_of(table: Any) -> tuple[Row, ...]:
    """Texts of the cells, row by row."""
    rows = []
    for row in table.iter():
        if local_name(row) == "tr":
            cells = [cell for cell in row if local_name(cell) in ("td", "th")]
            rows.append(tuple(" ".join(" ".join(cell.itertext()).split()) for cell in cells))
    return tuple(rows)
