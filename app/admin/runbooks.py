"""Runbooks beside what they are about: the pages of docs/runbooks, which the image carries."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from flask import url_for
from flask_admin import expose
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from app.admin import frame
from app.errors import NotFoundError
from app.storage.postgres.tables.dead_letters import LETTER_REASONS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
# The page that has a section for each reason of which a letter died.
OF_LETTERS = "SemanticExplorerDeadLetters"
_NAME = re.compile(r"[A-Za-z][A-Za-z-]{0,79}")
_LEAD, _SENTENCE_END = re.compile(r"^\*\*[^*]*\*\*\s*"), re.compile(r"(?<=\.)\s")
_NO_ID = re.compile(r"[^a-z0-9]+")


class RunbooksView(frame.Page):
    """/admin/runbooks."""

    under = "/admin/dead-letters/"

    def __init__(self) -> None:
        super().__init__(name="Runbooks", endpoint="panel_runbooks", url="/admin/runbooks")

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        """All of them."""
        return self.render("panel/runbooks.html", runbooks=[(one, summary(read(one))) for one in names()])

    @expose("/<runbook>")  # type: ignore[untyped-decorator]
    def page(self, runbook: str) -> str:
        """One; its sections can be named in the address."""
        return self.render("panel/runbook.html", name=runbook, text=as_html(read(runbook)))

    def is_visible(self) -> bool:
        """The menu is for what moves; letters and the foot of each page lead here."""
        return False


def names() -> list[str]:
    """Every runbook there is; none where docs/ was not installed."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def read(name: str) -> str:
    """The text of a runbook; raises NotFoundError."""
    path = FOLDER / f"{name}.md"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise NotFoundError(f"no runbook {name[:80]}")
    return path.read_text(encoding="utf-8")


def summary(text: str) -> str:
    """The first sentence of a runbook, without its marks."""
    paragraphs = (part for part in text.split("\n\n") if not part.startswith("#"))
    first = _LEAD.sub("", next(paragraphs, "")).replace("`", "").replace("\n", " ")
    return _SENTENCE_END.split(first, maxsplit=1)[0].strip()


def anchor(reason: str) -> str:
    """The section of the letters' runbook that is about a reason."""
    return reason if reason in LETTER_REASONS else "unknown"


def as_html(text: str) -> Markup:
    """A runbook as HTML without its title; each heading has an id; links lead to runbooks only."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    if tokens and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for opening, inside in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _NO_ID.sub("-", inside.content.lower()).strip("-"))
    for token in tokens:
        for child in token.children or []:
            _lead(child)
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # noqa: S704 our own text, its HTML escaped


def _lead(token: Token) -> None:
    """Let a link lead to the panel's page of the runbook that it names; others are not served here."""
    if token.type != "link_open":
        return
    page, _, section = str(token.attrGet("href") or "").partition("#")
    stem = page.removesuffix(".md")
    if page.endswith(".md") and _NAME.fullmatch(stem) and (FOLDER / page).is_file():
        token.attrSet("href", url_for("panel_runbooks.page", runbook=stem, _anchor=section or None))
    elif page:
        token.attrs.pop("href", None)
