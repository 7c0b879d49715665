"""Maps of what was pushed from outside have pages without a collection, and passages without documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.security.principal import SINGLE_USER, Principal
from app.services.standalone import PushedPoint
from tests.support.domain import Recorder, drop_indexes

TIGER = UUID(int=1 << 96)


@pytest.fixture
def pushed(container: Container) -> Iterator[int]:
    of = container.services.standalone
    key = of.create(SINGLE_USER, title="Poems", dimensions=2).embedded_dataset_id
    payload = {"text": "The tiger burns <bright>.", "item_title": "Blake", "page": 7}
    of.push(SINGLE_USER, key, [PushedPoint(str(TIGER), [1.0, 0.0], payload)])
    yield key
    drop_indexes(container)


def test_its_map_is_listed_and_has_a_page(client: FlaskClient, container: Container, pushed: int) -> None:
    made = container.services.visualization_transforms.create(
        SINGLE_USER, title="All poems", embedded_dataset_id=pushed
    )
    listed = client.get("/maps").text
    assert "All poems" in listed
    assert "Poems, pushed from outside" in listed
    for path in ("/maps", "/parts/maps"):
        page = client.get(f"{path}/{made.visualization_transform_id}")
        assert (page.status_code, "/collections/" in page.text) == (200, False)


def test_its_passages_are_what_was_pushed(client: FlaskClient, pushed: int) -> None:
    asked = {"ids": [str(uuid4()), str(TIGER)], "query": "tiger"}
    part = client.post(f"/maps/pushed/{pushed}", json=asked).text
    assert part.count("<article") == 1
    assert ("Blake" in part, "page 7" in part, "&lt;bright&gt;" in part) == (True, True, True)
    assert "/documents/" not in part
    short = client.get(f"/maps/pushed/{pushed}/{TIGER}")
    assert short.json == {"title": "Blake", "text": "The tiger burns <bright>.", "page": 7}
    assert client.get(f"/maps/pushed/{pushed}/{uuid4()}").status_code == 404


def test_what_another_pushed_is_not_there(client: FlaskClient, container: Container) -> None:
    bob = Principal("bob", "Bob")
    container.services.owners.ensure(bob)
    theirs = container.services.standalone.create(bob, title="Bob's", dimensions=2).embedded_dataset_id
    assert client.post(f"/maps/pushed/{theirs}", json={"ids": [str(TIGER)]}).status_code == 404
    assert client.get(f"/maps/pushed/{theirs}/{TIGER}").status_code == 404
    assert client.post(f"/maps/pushed/{theirs}/map").status_code == 404
    assert "Bob" not in client.get("/maps").text


def test_its_first_map_begins_with_a_button(
    client: FlaskClient, container: Container, recorder: Recorder, pushed: int
) -> None:
    [path] = re.findall(r'action="(/maps/pushed/\d+/map)"', client.get("/maps").text)
    answer = client.post(path)
    assert answer.status_code == 303
    assert "Building the map" in client.get(answer.location).text
    assert recorder.kinds().count("build_visualization") == 1
    assert client.post(path).location == answer.location  # twice is once
    assert recorder.kinds().count("build_visualization") == 1
    assert "/maps/pushed/" not in client.get("/maps").text
    empty = container.services.standalone.create(SINGLE_USER, title="Empty", dimensions=2)
    refused = client.post(f"/maps/pushed/{empty.embedded_dataset_id}/map")
    assert (refused.status_code, "push vectors first" in refused.text) == (409, True)
