"""The marketplace page shows what is public, a page at a time, with a button that copies."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.security.principal import SINGLE_USER, Principal
from app.services.items import PushedChunk, PushedItem
from app.web import marketplace

ADA = Principal("ada", "Ada <Lovelace>")


@pytest.fixture
def of_ada(container: Container) -> None:
    of = container.services
    of.owners.ensure(ADA)
    of.collections.create(ADA, title="Papers", details="On engines", tags=("maths",), is_public=True)
    of.collections.create(ADA, title="Diary")
    dataset = of.datasets.create(ADA, title="Notes", is_public=True).dataset_id
    of.items.push(ADA, dataset, [PushedItem("G", [PushedChunk("one"), PushedChunk("two")])])
    keyed = {"provider": "cohere", "api_key": "sk-ada", "is_public": True}
    of.embedders.create(ADA, {"name": "E", **keyed})  # type: ignore[typeddict-item]
    of.llms.create(ADA, {"name": "L", **keyed})  # type: ignore[typeddict-item]


def test_each_kind_shows_what_is_public_and_whose(client: FlaskClient, of_ada: None) -> None:
    pages = {kind: client.get(f"/marketplace?kind={kind}").text for kind in marketplace.KINDS}
    for words in ("Papers", "On engines", "maths", "by Ada &lt;Lovelace&gt;"):
        assert words in pages["collections"]
    assert "Diary" not in pages["collections"]
    assert re.search(r"Passages</dt><dd[^>]*>2<", pages["datasets"])
    assert "command-a-03-2025" in pages["llms"]
    assert "embed-v4.0" in pages["embedders"]
    assert not any("sk-ada" in page for page in pages.values())
    assert client.get("/marketplace?kind=nonsense&page=-3").text == pages["collections"]


def test_the_button_copies(client: FlaskClient, of_ada: None) -> None:
    for kind in marketplace.KINDS:
        [path] = re.findall(r'hx-post="([^"]*)"', client.get(f"/marketplace?kind={kind}").text)
        assert client.post(path).status_code == 201
    assert "Papers-grabbed" in client.get("/").text
    assert "<h2>Papers-grabbed</h2>" not in client.get("/marketplace").text  # the copy is private


def test_many_are_shown_a_page_at_a_time(
    client: FlaskClient, of_ada: None, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marketplace, "PAGE_SIZE", 1)
    container.services.collections.create(ADA, title="More papers", is_public=True)
    first, second = (client.get(f"/marketplace?page={page}").text for page in (1, 2))
    assert ("<h2>More papers</h2>" in first, "Page 1 of 2" in first) == (True, True)
    assert "<h2>Papers</h2>" in second
    assert 'rel="next"' not in second
    assert "To the first page" in client.get("/marketplace?page=3").text


def test_a_switch_makes_each_kind_of_ones_own_public_and_private_again(
    client: FlaskClient, of_ada: None, container: Container
) -> None:
    of = container.services
    of.owners.ensure(SINGLE_USER)
    of.collections.create(SINGLE_USER, title="My things")
    of.datasets.create(SINGLE_USER, title="My things")
    keyed: Any = {"provider": "cohere", "api_key": "sk-mine", "name": "My things"}
    of.embedders.create(SINGLE_USER, keyed)
    of.llms.create(SINGLE_USER, keyed)
    for kind in marketplace.KINDS:
        page = client.get(f"/marketplace/mine?kind={kind}").text
        assert ("My things" in page, "sk-mine" in page, page.count('<form method="post"')) == (True, False, 1)
        [path] = re.findall(r'<form method="post" action="([^"]*)"', page)
        for choice, offered in (("yes", 1), ("no", 0)):
            answer = client.post(path, data={"public": choice})
            assert (answer.status_code, answer.location) == (303, f"/marketplace/mine?kind={kind}")
            assert client.get(f"/marketplace?kind={kind}").text.count("<h2>My things</h2>") == offered


def test_what_is_another_s_has_no_switch(client: FlaskClient, of_ada: None, container: Container) -> None:
    assert "You have no collection yet" in client.get("/marketplace/mine").text
    theirs = container.services.collections.public().items[0].collection_id
    for path in (f"collections/{theirs}", f"nonsense/{theirs}"):
        assert client.post(f"/marketplace/mine/{path}", data={"public": "no"}).status_code == 404
    assert "<h2>Papers</h2>" in client.get("/marketplace").text
