"""Pages answer, hide nothing that failed, and let nothing in that is not theirs."""

from __future__ import annotations

from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.security.principal import SINGLE_USER
from app.storage.postgres.tables import (
    FileExtraction,
    Item,
    ItemEmbedding,
    Visualization,
    VisualizationTransform,
)
from tests.support.domain import Recorder, World

_EMPTY = (
    "/",
    "/search",
    "/search?q=anything",
    "/maps",
    "/marketplace",
    "/marketplace?kind=llms",
    "/api/docs",
)


@pytest.mark.parametrize("path", _EMPTY)
def test_every_page_has_something_to_say_before_there_is_anything(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


def test_a_first_visit_shows_the_steps_and_one_action(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "Drop files or folders" in page
    assert "Create collection" in page


def test_one_form_sets_up_the_pipeline_and_twice_is_once(client: FlaskClient, container: Container) -> None:
    places = [client.post("/collections", data={"title": " Papers "}).headers["Location"] for _ in range(2)]
    assert places[0] == places[1]
    services = container.services
    [collection] = services.overview.collections(SINGLE_USER)
    assert (collection.title, len(collection.transform_ids), len(collection.embedded)) == ("Papers", 1, 1)
    assert services.embedders.list(SINGLE_USER).total_count == 1
    assert "No files yet" in client.get(places[0]).text


def test_what_was_made_half_is_completed(container: Container) -> None:
    services = container.services
    made = services.collections.create(SINGLE_USER, title="Papers")
    pile = services.quickstart.create(SINGLE_USER, title="Papers")
    assert pile.collection_id == made.collection_id
    assert services.quickstart.create(SINGLE_USER, title="Papers") == pile


def test_a_name_that_breaks_a_rule_is_answered_with_the_rule(client: FlaskClient) -> None:
    answer = client.post("/collections", data={"title": "  "})
    assert answer.status_code == 400
    assert "title must not be empty" in answer.text


def test_a_map_of_nothing_says_what_is_missing(client: FlaskClient, recorder: Recorder) -> None:
    place = client.post("/collections", data={"title": "Papers"}).headers["Location"]
    answer = client.post(f"{place}/map")
    assert answer.status_code == 409
    assert "add files" in answer.text
    assert "build_visualization" not in recorder.kinds()


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/collections/999999",
        "/documents/999999",
        "/maps/999999",
        "/maps/1/1/points",
        "/collections/99999999999999999999",
    ],
)
def test_what_is_not_there_is_said_in_the_frame_of_all_pages(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Go to your collections" in answer.text


def test_an_unknown_address_of_the_api_answers_in_json(client: FlaskClient) -> None:
    assert client.get("/api/nothing").get_json()["status"] == 404


def test_forms_of_other_sites_are_refused(client: FlaskClient, container: Container) -> None:
    answer = client.post("/collections", data={"title": "x"}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert container.services.overview.collections(SINGLE_USER) == []


def test_names_and_texts_of_files_are_never_markup(client: FlaskClient, mine: World) -> None:
    nasty = '"><img src=x onerror=alert(1)>'
    collection, dataset = mine.collection(), mine.dataset()
    transform = mine.collection_transform(collection, dataset)
    file, item = mine.file(collection, nasty), mine.item(dataset, [nasty, nasty])
    with mine.database.transaction() as session:
        row = session.get_one(Item, item)
        row.title, row.file_id, row.collection_transform_id = nasty, file, transform
        row.metadata_ = {nasty: nasty}
        session.add(
            FileExtraction(
                collection_transform_id=transform,
                file_id=file,
                file_version=1,
                config_hash="c1",
                state="failed",
                job_id=uuid4(),
                error_message=nasty,
            )
        )
    for path in (f"/collections/{collection}", "/", f"/documents/{item}"):
        page = client.get(path).text
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page or path == "/"


def test_a_failed_map_shows_its_cause_and_a_way_to_try_again(client: FlaskClient, mine: World) -> None:
    collection, dataset = mine.collection(), mine.dataset()
    mine.collection_transform(collection, dataset)
    embedded = mine.embedded_dataset(mine.dataset_transform(dataset), dataset, mine.embedder())
    with mine.database.transaction() as session:
        transform = VisualizationTransform(
            owner_id=mine.owner_id, title="Papers", embedded_dataset_id=embedded
        )
        session.add(transform)
        session.flush()
        key = transform.visualization_transform_id
        session.add(
            Visualization(
                owner_id=mine.owner_id,
                visualization_transform_id=key,
                status="failed",
                job_id=uuid4(),
                error_message="the embedded dataset holds 5 vectors",
            )
        )
    for path in ("/", f"/collections/{collection}", f"/maps/{key}", "/maps"):
        assert "the embedded dataset holds 5 vectors" in client.get(path).text
    assert f"/api/visualization-transforms/{key}/trigger" in client.get(f"/maps/{key}").text


@pytest.mark.parametrize(
    "body", [{"ids": "x"}, {"ids": ["x"]}, {"ids": [1]}, {}, [], {"ids": [str(uuid4())] * 501}]
)
def test_ids_that_are_none_are_refused(client: FlaskClient, body: object) -> None:
    answer = client.post("/maps/passages", json=body)
    assert answer.status_code == 400
    assert "ids must" in answer.text


def test_passages_that_are_gone_are_called_gone(client: FlaskClient) -> None:
    answer = client.post("/maps/passages", json={"ids": [str(uuid4())], "query": "x"})
    assert "no longer there" in answer.text
    assert client.get(f"/maps/passages/{uuid4()}").status_code == 404


def test_a_search_that_is_refused_says_why_and_keeps_what_was_typed(client: FlaskClient, mine: World) -> None:
    collection, dataset = mine.collection(), mine.dataset()
    transform = mine.collection_transform(collection, dataset)
    item = mine.item(dataset)
    embedded = mine.embedded_dataset(mine.dataset_transform(dataset), dataset, mine.embedder())
    _embed(mine, collection, transform, item, embedded)
    answer = client.get("/search", query_string={"q": "long " * 2_000})
    assert answer.status_code == 200
    assert "query must have at most" in answer.text
    assert "long long" in answer.text


def test_a_link_to_a_passage_that_is_gone_still_opens_the_document(client: FlaskClient, mine: World) -> None:
    item = mine.item(mine.dataset())
    page = client.get(f"/documents/{item}?passage={uuid4()}&part=99").text
    assert "no longer there" in page


@pytest.mark.parametrize("query", ["page=99999999999999999999", "page=-1", "page=x", "name=%00", "state=x"])
def test_nonsense_in_an_address_is_as_if_it_were_not_there(
    client: FlaskClient, mine: World, query: str
) -> None:
    collection = mine.collection()
    mine.file(collection)
    assert client.get(f"/collections/{collection}?{query}").status_code == 200


def test_parts_of_pages_are_not_pages(client: FlaskClient, mine: World) -> None:
    collection = mine.collection()
    part = client.get(f"/parts/collections/{collection}", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert 'id="pipeline"' in part


def _embed(mine: World, collection: int, transform: int, item: int, embedded: int) -> None:

    with mine.database.transaction() as session:
        row = session.get_one(Item, item)
        row.collection_transform_id, row.file_id = transform, mine.file(collection)
        session.add(
            ItemEmbedding(
                embedded_dataset_id=embedded,
                item_id=item,
                content_hash=row.content_hash,
                state="succeeded",
                job_id=uuid4(),
                chunk_count=2,
            )
        )
