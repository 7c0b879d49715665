"""Home: what there is, what runs, what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.web import frame

if TYPE_CHECKING:
    from app.container import Container


def add(web: Blueprint, container: Container) -> None:
    """Add the page, its live part and the form that makes a collection."""
    services = container.services

    @web.get("/")
    def home() -> str:
        found = services.overview.collections(frame.principal())
        return render_template("home.html", collections=found)

    @web.get("/parts/home")
    def home_part() -> str:
        found = services.overview.collections(frame.principal())
        return render_template("parts/home.html", collections=found)

    @web.post("/collections")
    def create_collection() -> ResponseReturnValue:
        pile = services.quickstart.create(frame.principal(), title=request.form.get("title", ""))
        return redirect(url_for("web.collection", collection_id=pile.collection_id), 303)
