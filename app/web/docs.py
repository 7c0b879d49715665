"""The page of the API: Swagger UI from our own files on our own OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

if TYPE_CHECKING:
    from app.container import Container


def add(web: Blueprint, container: Container) -> None:
    """Add the page; it needs no service."""
    del container

    @web.get("/api/docs")
    def api_docs() -> str:
        return render_template("docs.html")
