"""The map: the page that holds the island, what the island reads, and how far a map in the making is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, render_template, request
from markupsafe import Markup

from app.errors import InvalidInputError, NotFoundError
from app.security.marks import least_role
from app.security.principal import Role
from app.services.overview import CollectionOverview, MapOverview
from app.services.reading import MAX_PASSAGES
from app.services.visualizations import MapSource
from app.web import frame, highlight, points

if TYPE_CHECKING:
    from app.container import Container, Services

_HOVER_CHARACTERS = 280
_PASSAGE_CHARACTERS = 360
_KEEP_SECONDS = 86_400  # a finished run never changes


@dataclass(frozen=True, slots=True)
class Entry:
    """A map in the list of maps."""

    collection: CollectionOverview
    map: MapOverview


def add(web: Blueprint, container: Container) -> None:
    """Add the pages and the island's data."""
    _add_pages(web, container.services)
    _add_data(web, container.services)
    _add_passages(web, container.services)


def _add_pages(web: Blueprint, services: Services) -> None:
    @web.get("/maps")
    def map_list() -> str:
        collections = services.overview.collections(frame.principal())
        return render_template("maps.html", entries=_entries(collections), collections=collections)

    @web.get("/maps/<int:transform_id>")
    def map_page(transform_id: int) -> str:
        entry = _entry(services, transform_id)
        run = request.args.get("run", entry.map.ready_id, type=int)
        source = _source(services, transform_id, run) if run else None
        return render_template("map.html", one=entry.collection, map=entry.map, source=source)

    @web.get("/parts/maps/<int:transform_id>")
    def map_part(transform_id: int) -> Response:
        entry = _entry(services, transform_id)
        html = render_template("parts/map_progress.html", one=entry.collection, map=entry.map)
        response = Response(html)
        if entry.map.status == "completed":
            response.headers["HX-Refresh"] = "true"
        return response


def _add_data(web: Blueprint, services: Services) -> None:
    @web.get("/maps/<int:transform_id>/<int:visualization_id>/points")
    def map_points(transform_id: int, visualization_id: int) -> Response:
        _source(services, transform_id, visualization_id)
        file = services.visualizations.points_file(frame.principal(), visualization_id)
        with file.stream as stream:
            content = points.packed(stream.read())
        return _kept(Response(content, mimetype="application/octet-stream"))

    @web.get("/maps/<int:transform_id>/<int:visualization_id>/preview.svg")
    def map_preview(transform_id: int, visualization_id: int) -> Response:
        _source(services, transform_id, visualization_id)
        file = services.visualizations.points_file(frame.principal(), visualization_id)
        with file.stream as stream:
            picture = points.preview(stream.read())
        return _kept(Response(picture, mimetype="image/svg+xml"))

    @web.get("/maps/<int:transform_id>/<int:visualization_id>/topics")
    def map_topics(transform_id: int, visualization_id: int) -> Response:
        _source(services, transform_id, visualization_id)
        found = services.visualizations.clusters(frame.principal(), visualization_id)
        return _kept(jsonify([_topic(asdict(one)) for one in found]))


def _add_passages(web: Blueprint, services: Services) -> None:
    @web.post("/maps/passages")
    @least_role(Role.VIEWER)
    def map_passages() -> str:
        asked = request.get_json(silent=True)
        asked = asked if isinstance(asked, dict) else {}
        found = services.reading.passages(frame.principal(), _ids(asked.get("ids")))
        query = str(asked.get("query") or "")

        def lit(text: str) -> Markup:
            return highlight.lit(text, query, most=_PASSAGE_CHARACTERS)

        return render_template("parts/passages.html", passages=found, lit=lit)

    @web.get("/maps/passages/<uuid:chunk_id>")
    def map_passage(chunk_id: UUID) -> Response:
        found = services.reading.passages(frame.principal(), [chunk_id])
        if not found:
            raise NotFoundError("this passage is no longer there")
        one = found[0]
        text = highlight.shortened(one.text, _HOVER_CHARACTERS)
        return jsonify({"title": one.item_title, "text": text, "page": one.page})


def _entries(collections: list[CollectionOverview]) -> list[Entry]:
    return [Entry(one, each) for one in collections for each in one.maps]


def _entry(services: Services, transform_id: int) -> Entry:
    for entry in _entries(services.overview.collections(frame.principal())):
        if entry.map.visualization_transform_id == transform_id:
            return entry
    raise NotFoundError(f"no map {transform_id}")


def _source(services: Services, transform_id: int, visualization_id: int) -> MapSource:
    found = services.visualizations.get(frame.principal(), visualization_id)
    if found.visualization.visualization_transform_id != transform_id:
        raise NotFoundError(f"no map {transform_id} with run {visualization_id}")
    return found


def _ids(given: Any) -> list[UUID]:
    if not isinstance(given, list) or len(given) > MAX_PASSAGES:
        raise InvalidInputError(f"ids must be a list of at most {MAX_PASSAGES} passage ids", field="ids")
    try:
        return [UUID(one) for one in given]
    except (TypeError, ValueError, AttributeError):
        raise InvalidInputError("ids must hold passage ids", field="ids") from None


def _topic(found: dict[str, Any]) -> dict[str, Any]:
    kept = {key: found[key] for key in ("name", "keywords", "size", "x", "y")}
    return {**kept, "id": found["cluster_id"], "exemplars": [str(one) for one in found["exemplar_chunk_ids"]]}


def _kept(response: Response) -> Response:
    response.headers["Cache-Control"] = f"private, max-age={_KEEP_SECONDS}"
    return response
