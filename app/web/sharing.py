"""What of one's own is in the marketplace: a list of each kind, with a switch on every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.errors import NotFoundError
from app.services.paging import Page
from app.web import frame
from app.web.marketplace import KINDS, PAGE_SIZE, offer, pages, shown

if TYPE_CHECKING:
    from app.container import Container, Services


def add(web: Blueprint, container: Container) -> None:
    """Add the page and the switch."""
    services = container.services

    @web.get("/marketplace/mine")
    def sharing() -> str:
        kind, page = shown()
        found = _lists(services)[kind](frame.principal(), limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
        return render_template(
            "sharing.html",
            kinds=KINDS,
            kind=kind,
            rows=[(offer(kind, one), one.is_public) for one in found.items],
            page=page,
            last=pages(found.total_count),
            total=found.total_count,
        )

    @web.post("/marketplace/mine/<kind>/<int:key>")
    def share(kind: str, key: int) -> ResponseReturnValue:
        if kind not in KINDS:
            raise NotFoundError(f"there is no kind {kind[:50]!r}; there are {', '.join(KINDS)}")
        change = {"is_public": request.form.get("public") == "yes"}
        _updates(services)[kind](frame.principal(), key, change)
        page = request.form.get("page", 1, type=int)
        return redirect(url_for("web.sharing", kind=kind, page=page if page > 1 else None), 303)


def _lists(services: Services) -> Mapping[str, Callable[..., Page[Any]]]:
    return {
        "collections": services.collections.list,
        "datasets": services.datasets.list,
        "embedders": services.embedders.list,
        "llms": services.llms.list,
    }


def _updates(services: Services) -> Mapping[str, Callable[..., object]]:
    return {
        "collections": services.collections.update,
        "datasets": services.datasets.update,
        "embedders": services.embedders.update,
        "llms": services.llms.update,
    }
