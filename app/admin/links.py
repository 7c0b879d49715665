"""Where a letter leads: to the things that it is about, to its trace, to the runbook of its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import url_for

from app.admin import frame, runbooks
from app.services.dead_letters import LetterDetail
from app.services.letter_subjects import LetterSubject

TRACE_FIELD = "{trace_id}"
_WORDS = {
    "file": "File",
    "item": "Document",
    "collection_transform": "Collection transform",
    "dataset_transform": "Dataset transform",
    "embedded_dataset": "Embedded dataset",
    "visualization_transform": "Visualization transform",
}


@dataclass(frozen=True, slots=True)
class About:
    """A thing in words; `name` is None for one that is gone, `url` where whoever looks has no page of it."""

    word: str
    id: int
    name: str | None
    url: str | None


def about(detail: LetterDetail) -> tuple[About, ...]:
    """What a letter is about; pages are for whoever owns the things alone."""
    mine = detail.letter.owner_id == frame.principal().owner_id
    return tuple(
        About(_WORDS[one.kind], one.id, one.name, _page(one) if mine else None) for one in detail.subjects
    )


def _page(subject: LetterSubject) -> str | None:
    match subject.page:
        case "collection":
            return url_for("web.collection", collection_id=subject.page_id)
        case "document":
            return url_for("web.document", item_id=subject.page_id)
        case "map":
            return url_for("web.map_page", transform_id=subject.page_id)
        case None:
            return None


def runbook(detail: LetterDetail) -> str:
    """The section for what the letter died of."""
    return url_for(
        "panel_runbooks.page", runbook=runbooks.OF_LETTERS, _anchor=runbooks.anchor(detail.letter.reason)
    )


def trace_links(template: str | None) -> Callable[[str], str | None]:
    """What makes of a trace's id the address where people look at it; None where nobody said where."""
    return lambda trace_id: template.replace(TRACE_FIELD, trace_id) if template else None
