"""The marketplace page shows what is public, a page at a time, with a button that copies."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.security.principal import Principal
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
    pages = {kind: client.get(f"/marketplace?kind={kind}").text for kind in marketplace._KINDS}
    for words in ("Papers", "On engines", "maths", "by Ada &lt;Lovelace&gt;"):
        assert words in pages["collections"]
    assert "Diary" not in pages["collections"]
    assert re.search(r"Passages</dt><dd[^>]*>2<", pages["datasets"])
    assert "command-a-03-2025" in pages["llms"]
    assert "embed-v4.0" in pages["embedders"]
    assert not any("sk-ada" in page for page in pages.values())
    assert client.get("/marketplace?kind=nonsense&page=-3").text == pages["collections"]


def test_the_button_copies(client: FlaskClient, of_ada: None) -> None:
    for kind in marketplace._KINDS:
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
