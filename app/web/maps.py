"""The map: the page that holds the island, what the island reads, and how far a map in the making is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from app.errors import InvalidInputError, NotFoundError
from app.security.marks import least_role
from app.security.principal import Role
from app.services.overview import CollectionOverview, MapOverview
from app.services.reading import MAX_PASSAGES, Passage
from app.services.visualizations import MapSource
from app.web import frame, highlight, points

if TYPE_CHECKING:
    from app.container import Container, Services

_HOVER_CHARACTERS = 280
_PASSAGE_CHARACTERS = 360
_KEEP_SECONDS = 86_400  # a finished run never changes


@dataclass(frozen=True, slots=True)
class Entry:
    """A map in the list of maps: of a collection, or of what was pushed from outside."""

    title: str
    map: MapOverview
    collection: CollectionOverview | None = None


def add(web: Blueprint, container: Container) -> None:
    """Add the pages and the island's data."""
    _add_pages(web, container.services)
    _add_data(web, container.services)
    _add_passages(web, container.services)


def _add_pages(web: Blueprint, services: Services) -> None:
    @web.get("/maps")
    def map_list() -> str:
        collections = services.overview.collections(frame.principal())
        entries = [*_entries(collections), *_pushed(services)]
        unmapped = services.standalone.unmapped(frame.principal())
        return render_template("maps.html", entries=entries, collections=collections, unmapped=unmapped)

    @web.get("/maps/<int:transform_id>")
    def map_page(transform_id: int) -> str:
        entry = _entry(services, transform_id)
        run = request.args.get("run", entry.map.ready_id, type=int)
        source = _source(services, transform_id, run) if run else None
        return render_template("map.html", entry=entry, one=entry.collection, map=entry.map, source=source)

    @web.post("/maps/pushed/<int:embedded_dataset_id>/map")
    def map_pushed(embedded_dataset_id: int) -> ResponseReturnValue:
        transform_id = services.quickstart.map_pushed(frame.principal(), embedded_dataset_id)
        return redirect(url_for("web.map_page", transform_id=transform_id), 303)

    @web.get("/parts/maps/<int:transform_id>")
    def map_part(transform_id: int) -> Response:
        entry = _entry(services, transform_id)
        html = render_template("parts/map_progress.html", entry=entry, one=entry.collection, map=entry.map)
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
        return _listed(lambda ids: services.reading.passages(frame.principal(), ids))

    @web.get("/maps/passages/<uuid:chunk_id>")
    def map_passage(chunk_id: UUID) -> Response:
        return _short(services.reading.passages(frame.principal(), [chunk_id]))

    @web.post("/maps/pushed/<int:embedded_dataset_id>")
    @least_role(Role.VIEWER)
    def pushed_passages(embedded_dataset_id: int) -> str:
        return _listed(lambda ids: services.standalone.passages(frame.principal(), embedded_dataset_id, ids))

    @web.get("/maps/pushed/<int:embedded_dataset_id>/<uuid:point_id>")
    def pushed_passage(embedded_dataset_id: int, point_id: UUID) -> Response:
        return _short(services.standalone.passages(frame.principal(), embedded_dataset_id, [point_id]))


def _listed(read: Callable[[list[UUID]], list[Passage]]) -> str:
    """The passages whose ids the body has, with the words of its query lit."""
    asked = request.get_json(silent=True)
    asked = asked if isinstance(asked, dict) else {}
    query = str(asked.get("query") or "")

    def lit(text: str) -> Markup:
        return highlight.lit(text, query, most=_PASSAGE_CHARACTERS)

    return render_template("parts/passages.html", passages=read(_ids(asked.get("ids"))), lit=lit)


def _short(found: list[Passage]) -> Response:
    """What is shown beside a point."""
    if not found:
        raise NotFoundError("this passage is no longer there")
    one = found[0]
    text = highlight.shortened(one.text, _HOVER_CHARACTERS)
    return jsonify({"title": one.item_title, "text": text, "page": one.page})


def _entries(collections: list[CollectionOverview]) -> list[Entry]:
    return [Entry(one.title, each, one) for one in collections for each in one.maps]


def _pushed(services: Services) -> list[Entry]:
    return [Entry(title, each) for title, each in services.overview.standalone_maps(frame.principal())]


def _entry(services: Services, transform_id: int) -> Entry:
    for entry in [*_entries(services.overview.collections(frame.principal())), *_pushed(services)]:
        if entry.map.visualization_transform_id == transform_id:
            return entry
    raise NotFoundError(f"no map {transform_id}")


def _source(services: Services, transform_id: int, visualization_id: int) -> MapSource:
    found = services.visualizations.get(frame.principal(), visualization_id)
    if found.visualization_transform_id != transform_id:
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
