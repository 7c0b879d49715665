"""One collection: dropping files in, how far each is, what failed, and the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.web import frame

if TYPE_CHECKING:
    from app.container import Container

PAGE_SIZE = 50
_MOST_PAGES = 1_000_000
_STATES = ("all", "waiting", "read", "failed")


def add(web: Blueprint, container: Container) -> None:
    """Add the page, its live part and the button that builds the map."""
    services = container.services

    def _context(collection_id: int) -> dict[str, object]:
        who = frame.principal()
        state = request.args.get("state", "all")
        name = request.args.get("name", "").replace("\x00", "").strip()
        page = min(max(1, request.args.get("page", 1, type=int)), _MOST_PAGES)
        files = services.reading.files(
            who,
            collection_id,
            state=state if state in _STATES[1:] else None,
            name=name or None,
            limit=PAGE_SIZE,
            offset=(page - 1) * PAGE_SIZE,
        )
        return {
            "one": services.overview.collection(who, collection_id),
            "files": files,
            "state": state,
            "name": name,
            "page": page,
            "page_size": PAGE_SIZE,
            "states": _STATES,
        }

    @web.get("/collections/<int:collection_id>")
    def collection(collection_id: int) -> str:
        return render_template("collection.html", **_context(collection_id))

    @web.get("/parts/collections/<int:collection_id>")
    def collection_part(collection_id: int) -> str:
        return render_template("parts/collection.html", **_context(collection_id))

    @web.post("/collections/<int:collection_id>/map")
    def build_map(collection_id: int) -> ResponseReturnValue:
        transform_id = services.quickstart.build_map(frame.principal(), collection_id)
        return redirect(url_for("web.map_page", transform_id=transform_id), 303)
