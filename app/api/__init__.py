"""The JSON API: the list of its resources on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response
from flask.json.provider import DefaultJSONProvider
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from app.api import (
    api_tokens,
    audit,
    auth,
    bulk,
    chat,
    collection_transforms,
    collections,
    dataset_transforms,
    datasets,
    dead_letter_bulks,
    dead_letters,
    embedded_datasets,
    embedders,
    errors,
    etags,
    events,
    exports,
    files,
    guard,
    health,
    idempotency,
    inference,
    items,
    jobs,
    llms,
    marketplace,
    metrics,
    openapi,
    programs,
    queues,
    search,
    sessions,
    standalone,
    status,
    usage,
    users,
    visualization_transforms,
    visualizations,
)
from app.api.context import EXTENSION
from app.api.schemas.base import Problem
from app.security.marks import public

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.container import Container

_RESOURCES = (
    collections,
    files,
    collection_transforms,
    datasets,
    items,
    embedders,
    llms,
    inference,
    dataset_transforms,
    embedded_datasets,
    standalone,
    visualization_transforms,
    visualizations,
    exports,
    search,
    chat,
    marketplace,
    jobs,
    queues,
    dead_letters,
    dead_letter_bulks,
    bulk,
    events,
    audit,
    usage,
    status,
    users,
    programs,
    sessions,
    api_tokens,
    health,
)
_MOST_FORM_PARTS = 10_000


class _StrictJSON(DefaultJSONProvider):
    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        del kwargs
        return guard.loads(s)


class _App(OpenAPI):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Nothing here is a coroutine; asking every function of every request is what Flask would do."""
        return func


def make_app(name: str) -> OpenAPI:
    """A Flask application that describes itself as OpenAPI 3.1."""
    app = _App(
        name,
        info=Info(title="Semantic Explorer", version="1"),
        doc_ui=False,
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=errors.validation_error,
        static_folder=None,
        security_schemes=openapi.SECURITY_SCHEMES,
    )
    app.json = _StrictJSON(app)
    return app


def register(app: OpenAPI, container: Container) -> None:
    """Add guard, resources, errors and metrics; raises InvalidInputError for an unsafe bind address."""
    app.extensions[EXTENSION] = container
    app.config["MAX_CONTENT_LENGTH"] = int(container.settings.s3_max_upload_size_bytes)
    app.config["MAX_FORM_PARTS"] = _MOST_FORM_PARTS
    metrics.register(app)  # first: what the guard refuses is measured, too
    guard.register(app, container.settings)
    audit.register(app)
    idempotency.register(app)
    etags.register(app)
    for resource in _RESOURCES:
        app.register_api(resource.api)
    app.register_blueprint(auth.browser)
    app.add_url_rule("/api/openapi.json", "openapi", public(lambda: _openapi(app)))
    health.register(app, container.health_checks)
    errors.register(app)


def _openapi(app: OpenAPI) -> Response:
    return Response(app.json.dumps(openapi.document(app)), mimetype="application/json")
