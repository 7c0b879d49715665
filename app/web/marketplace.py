"""Marketplace: what people made public, to be copied; the button calls the JSON API for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template, request

from app.services.paging import Page
from app.web import frame, wording

if TYPE_CHECKING:
    from app.container import Container, Services

PAGE_SIZE = 24
_MOST_PAGES = 1_000_000
KINDS = {"collections": "Collections", "datasets": "Datasets", "embedders": "Embedders", "llms": "LLMs"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One public thing: what it is called, who made it (where that is told), and what it has."""

    key: int
    title: str
    details: str | None
    by: str | None
    tags: tuple[str, ...]
    facts: Mapping[str, str]
    is_mine: bool


def add(web: Blueprint, container: Container) -> None:
    """Add the page."""
    services = container.services

    @web.get("/marketplace")
    def marketplace() -> str:
        kind, page = shown()
        found = _lists(services)[kind](limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
        return render_template(
            "marketplace.html",
            kinds=KINDS,
            kind=kind,
            offers=[offer(kind, one) for one in found.items],
            page=page,
            last=pages(found.total_count),
            total=found.total_count,
        )


def shown() -> tuple[str, int]:
    """Which kind and which page the address asks for; what makes no sense is as if it were not there."""
    kind = request.args.get("kind", "")
    page = min(max(1, request.args.get("page", 1, type=int)), _MOST_PAGES)
    return kind if kind in KINDS else "collections", page


def pages(total: int) -> int:
    """How many pages so many things take, at least one."""
    return max(1, -(-total // PAGE_SIZE))


def _lists(services: Services) -> Mapping[str, Callable[..., Page[Any]]]:
    return {
        "collections": services.collections.public,
        "datasets": services.datasets.public,
        "embedders": services.embedders.public,
        "llms": services.llms.public,
    }


def offer(kind: str, one: Any) -> Offer:
    """One thing of a kind as a card shows it."""
    configured = kind in {"embedders", "llms"}
    return Offer(
        key=getattr(one, f"{kind[:-1]}_id"),
        title=one.name if configured else one.title,
        details=None if configured else one.details,
        by=None if configured else one.owner_display_name,
        tags=() if configured else tuple(one.tags),
        facts=_FACTS[kind](one),
        is_mine=one.owner_id == frame.principal().owner_id,
    )


_FACTS: Mapping[str, Callable[[Any], Mapping[str, str]]] = {
    "collections": lambda one: {
        "Files": wording.number(one.file_count),
        "Size": wording.size(one.size_bytes),
    },
    "datasets": lambda one: {
        "Documents": wording.number(one.item_count),
        "Passages": wording.number(one.total_chunks),
    },
    "embedders": lambda one: {
        "Provider": one.provider,
        "Model": one.model,
        "Dimensions": wording.number(one.dimensions),
    },
    "llms": lambda one: {"Provider": one.provider, "Model": one.model},
}
