"""Searches narrowed by tags: of pushed items, of files, of pushed vectors; by meaning and by words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer

Work = Callable[[], list[str]]
MARKDOWN = b"---\ntags: [final, harbour]\n---\n\n# Report\n\nthe tiger sleeps in the harbour\n"


class Tagged:
    """Three items, one of them read from a file, in one embedded dataset."""

    def __init__(self, api: Api, provider: EmbeddingServer, work: Work) -> None:
        self.api, self.work, self.provider = api, work, provider
        self.dataset = api.dataset()
        self.push("draft", ["draft"])
        self.push("bare")
        collection = api.collection()
        api.upload(collection, ("report.md", MARKDOWN))
        api.collection_transform(collection, self.dataset)
        body = {"title": "t", "source_dataset_id": self.dataset, "embedder_ids": [api.embedder(provider)]}
        self.embedded = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"]
        work()

    def push(self, title: str, tags: list[str] | None = None) -> None:
        item = {"title": title, "chunks": [{"content": f"the tiger of {title}"}]}
        metadata = {"tags": tags} if tags else {}
        self.api.post(f"/api/datasets/{self.dataset}/items", {"items": [{**item, "metadata": metadata}]})

    def found(self, tags: str | list[str], **more: Any) -> set[str]:
        body = {"query": "tiger", "embedded_dataset_ids": self.embedded, "score_threshold": -1.0, **more}
        (block,) = self.api.post("/api/search", {**body, "filters": {"tags": tags}})["results"]
        assert block["error"] is None
        return {match["item_title"] for match in block["matches"]}


@pytest.fixture
def tagged(api: Api, provider: EmbeddingServer, work: Work) -> Tagged:
    return Tagged(api, provider, work)


@pytest.mark.parametrize("more", [{}, {"hybrid": True}, {"search_mode": "documents"}], ids=str)
def test_a_tag_or_any_of_several_narrows_by_meaning_and_by_words(tagged: Tagged, more: dict[str, Any]):
    assert tagged.found("draft", **more) == {"draft"}
    assert tagged.found("harbour", **more) == {"Report"}
    assert tagged.found(["final", "draft"], **more) == {"draft", "Report"}
    assert tagged.found("nothing", **more) == set()


def test_other_tags_of_the_same_words_are_searched_and_nothing_is_embedded_again(api: Api, tagged: Tagged):
    paid = len(tagged.provider.requests)
    tagged.push("draft", ["final"])
    tagged.work()
    assert len(tagged.provider.requests) == paid
    items = api.get(f"/api/datasets/{tagged.dataset}/items-summary")["items"]
    assert {item["title"]: item["tags"] for item in items}["draft"] == ["final"]
    for more in ({}, {"hybrid": True}):
        assert tagged.found("draft", **more) == set()
        assert tagged.found("final", **more) == {"draft", "Report"}


def test_a_pushed_vector_has_the_tags_of_its_payload(api: Api):
    made = api.post("/api/embedded-datasets/standalone", {"title": "s", "dimensions": 2}, 201)
    path = f"/api/embedded-datasets/{made['embedded_dataset_id']}/push-vectors"
    points = [
        {"id": str(uuid4()), "vector": [1, number], "payload": {"text": tag, "tags": [tag, "all"]}}
        for number, tag in enumerate(("one", "two"))
    ]
    api.post(path, {"points": points})

    def found(tags: Any) -> set[str]:
        body = {
            "vector": [1, 1],
            "embedded_dataset_ids": [made["embedded_dataset_id"]],
            "filters": {"tags": tags},
        }
        (block,) = api.post("/api/search", body)["results"]
        return {match["text"] for match in block["matches"]}

    assert found("one") == {"one"}
    assert found("all") == {"one", "two"}
    assert found(["two", "three"]) == {"two"}
