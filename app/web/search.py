"""Search: one query over several embedded datasets, side by side; everything chosen is in the address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template, request
from markupsafe import Markup
from werkzeug.datastructures import MultiDict

from app.errors import ExplorerError
from app.security.marks import budget
from app.services.overview import CollectionOverview
from app.services.search import Query, Rerank
from app.services.search_results import SearchResult
from app.services.standalone import SearchableByWords
from app.web import frame, highlight

if TYPE_CHECKING:
    from app.container import Container

_MODES = ("documents", "chunks")
_LIMITS = (10, 20, 50)
_COLUMNS = 3  # searched when nothing was chosen; more side by side are hard to read
_MOST_LLMS = 200
SHOWN_CHARACTERS = 420


@dataclass(frozen=True, slots=True)
class Source:
    """An embedded dataset that can be searched."""

    embedded_dataset_id: int
    collection_title: str  # of a standalone one its own
    embedder_name: str
    map_id: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for."""

    text: str
    sources: tuple[int, ...]
    mode: str
    threshold: float
    limit: int
    media_type: str
    language: str
    tag: str
    page_from: int | None
    page_to: int | None
    hybrid: bool
    rerank: int | None

    @property
    def filters(self) -> dict[str, Any]:
        """In the form that the search service takes."""
        pages = {
            key: value for key, value in (("gte", self.page_from), ("lte", self.page_to)) if value is not None
        }
        chosen = {"media_type": self.media_type, "language": self.language, "tags": self.tag, "page": pages}
        return {name: value for name, value in chosen.items() if value}


def add(web: Blueprint, container: Container) -> None:
    """Add the page."""
    services = container.services

    @web.get("/search")
    @budget("search")
    def search() -> str:
        who = frame.principal()
        sources = [
            *searchable(services.overview.collections(who)),
            *pushed(services.standalone.searchable(who)),
        ]
        llms = services.llms.list(who, limit=_MOST_LLMS).items
        known = [source.embedded_dataset_id for source in sources]
        asked = read(request.args, known, [llm.llm_id for llm in llms])
        result, problem, seconds = None, None, 0.0
        if asked.text and asked.sources:
            started = time.monotonic()
            try:
                result = services.search.search(who, _query(asked))
            except ExplorerError as error:
                problem = error.message
            seconds = time.monotonic() - started
        return render_template(
            "search.html",
            asked=asked,
            sources=sources,
            llms=llms,
            by_id={source.embedded_dataset_id: source for source in sources},
            facets=services.reading.facets(who),
            result=result,
            problem=problem,
            seconds=seconds,
            shared=shared_documents(result),
            limits=_LIMITS,
            lit=_lit_for(asked.text),
        )


def searchable(collections: list[CollectionOverview]) -> list[Source]:
    """Every embedded dataset that holds passages, in the order of the collections."""
    return [
        Source(
            one.embedded_dataset_id,
            collection.title,
            one.embedder_name,
            next(
                (
                    found.visualization_transform_id
                    for found in collection.maps
                    if found.embedded_dataset_id == one.embedded_dataset_id and found.ready_id
                ),
                None,
            ),
        )
        for collection in collections
        for one in collection.embedded
        if one.passages.done
    ]


def pushed(found: Sequence[SearchableByWords]) -> list[Source]:
    """Those into which vectors were pushed; their passages lead to no document and no map here."""
    return [Source(one.embedded_dataset_id, one.title, one.embedder_name, None) for one in found]


def read(given: MultiDict[str, str], known: list[int], llms: Sequence[int] = ()) -> Asked:
    """What the address asks for; values that make no sense are as if they were not there."""
    chosen = [key for key in given.getlist("in", type=int) if key in known]
    mode = given.get("mode", _MODES[0])
    limit = given.get("limit", _LIMITS[0], type=int)
    threshold = given.get("min", 0.0, type=float)
    rerank = given.get("rerank", type=int)
    return Asked(
        text=given.get("q", "").strip(),
        sources=tuple(dict.fromkeys(chosen)) or tuple(known[:_COLUMNS]),
        mode=mode if mode in _MODES else _MODES[0],
        threshold=threshold if 0 <= threshold <= 1 else 0.0,
        limit=limit if limit in _LIMITS else _LIMITS[0],
        media_type=given.get("type", ""),
        language=given.get("lang", ""),
        tag=given.get("tag", "").strip(),
        page_from=given.get("page_from", type=int),
        page_to=given.get("page_to", type=int),
        hybrid=bool(given.get("words")),
        rerank=rerank if rerank in llms else None,
    )


def shared_documents(result: SearchResult | None) -> dict[int, int]:
    """How many of the columns found each document: what one column alone has found is worth a mark."""
    counts: dict[int, int] = {}
    for block in result.results if result else ():
        for item_id in {match.item_id for match in block.matches}:
            counts[item_id] = counts.get(item_id, 0) + 1
    return counts


def _query(asked: Asked) -> Query:
    return Query(
        query=asked.text,
        embedded_dataset_ids=asked.sources,
        limit=asked.limit,
        score_threshold=asked.threshold,
        filters=asked.filters,
        search_mode="documents" if asked.mode == "documents" else "chunks",
        hybrid=asked.hybrid,
        rerank=Rerank(asked.rerank) if asked.rerank is not None else None,
    )


def _lit_for(query: str) -> Any:
    def lit(text: str) -> Markup:
        return highlight.lit(text, query, most=SHOWN_CHARACTERS)

    return lit
