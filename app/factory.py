"""Puts the web application together: guard, API, pages, the operators' panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import admin, api, web
from app.observability.tracing import instrument_flask
from app.web import errors

if TYPE_CHECKING:
    from flask import Flask

    from app.container import Container


def create_app(container: Container) -> Flask:
    """Build the application; raises InvalidInputError when the settings would expose it."""
    app = api.make_app("app.factory")
    instrument_flask(app)  # first: who asks is found out within the span of the request
    web.register(app, container)
    admin.register(app, container, errors.answer)
    api.register(app, container)
    app.extensions[api.auth.ERROR_PAGE] = errors.answer
    return app
