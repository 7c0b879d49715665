"""Pages for people: Jinja templates, htmx for what moves, one TypeScript island for the map.

`register` hangs them on the application. Pages call services and, from the browser, the public JSON API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Flask

from app.web import (
    chat,
    collections,
    docs,
    errors,
    frame,
    home,
    login,
    maps,
    marketplace,
    reader,
    search,
    sharing,
)

if TYPE_CHECKING:
    from app.container import Container


def register(app: Flask, container: Container) -> None:
    """Add every page, its static files and the error pages to `app`."""
    web = Blueprint(
        "web",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/assets",
    )
    frame.add(web)
    for page in (home, collections, search, chat, maps, reader, marketplace, sharing, docs, login):
        page.add(web, container)
    web.register_error_handler(Exception, errors.answer)
    errors.add(app)
    app.register_blueprint(web)
