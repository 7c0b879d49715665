from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, update

from app.container import Container
from app.storage.postgres.tables import EmbedderRow
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer, Fault


class Corpus:
    """Three documents through two embedders."""

    def __init__(self, api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]) -> None:
        self.dataset = api.dataset()
        pushed = api.push(
            self.dataset,
            tigers=["the tiger burns bright", "the tiger walks at night"],
            tides=["the tide rises twice a day"],
            stoves=["an oven bakes bread"],
        )
        self.items = pushed["item_ids"]
        embedders = [api.embedder(provider, name=name) for name in ("one", "two")]
        body = {"title": "t", "source_dataset_id": self.dataset, "embedder_ids": embedders}
        made = api.post("/api/dataset-transforms", body, 201)
        self.ids = made["transform"]["embedded_dataset_ids"]
        self.embedders = embedders
        work()


@pytest.fixture
def corpus(api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]) -> Corpus:
    return Corpus(api, provider, work)


def ask(api: Api, corpus: Corpus, query: str = "tiger bright", status: int = 200, **more: Any) -> Any:
    body = {"query": query, "embedded_dataset_ids": corpus.ids[:1], **more}
    return api.post("/api/search", body, status)


def test_the_nearest_passage_comes_first_with_all_that_leads_back_to_it(api: Api, corpus: Corpus):
    (block,) = ask(api, corpus)["results"]
    best = block["matches"][0]
    assert best["text"] == "the tiger burns bright"
    assert (best["item_title"], best["item_id"], best["start_char"]) == ("tigers", corpus.items[0], 0)
    assert best["score"] > block["matches"][1]["score"]
    assert (block["source_dataset_title"], block["embedder_name"], block["error"]) == ("Texts", "one", None)
    assert api.get(f"/api/chunks/{best['chunk_id']}")["chunk"]["content"] == best["text"]


def test_documents_are_ranked_by_their_best_passage(api: Api, corpus: Corpus):
    (block,) = ask(api, corpus, search_mode="documents")["results"]
    first = block["documents"][0]
    assert (first["item_title"], first["chunk_count"]) == ("tigers", 2)
    assert first["best_chunk"]["text"] == "the tiger burns bright"
    assert len({row["item_id"] for row in block["documents"]}) == len(block["documents"])


def test_embedded_datasets_answer_side_by_side_in_the_order_asked(
    api: Api, corpus: Corpus, provider: EmbeddingServer
):
    asked = list(reversed(corpus.ids))
    results = ask(api, corpus, embedded_dataset_ids=asked)["results"]
    assert [block["embedded_dataset_id"] for block in results] == asked
    assert all(block["matches"] for block in results)


def test_one_that_cannot_answer_says_so_and_the_other_still_does(
    api: Api, corpus: Corpus, provider: EmbeddingServer, container: Container
):
    with container.database.transaction() as session:
        moved = update(EmbedderRow).where(EmbedderRow.embedder_id == corpus.embedders[0])
        session.execute(moved.values(base_url="http://127.0.0.1:9/v1"))
    provider.faults.clear()
    failed, good = ask(api, corpus, embedded_dataset_ids=corpus.ids)["results"]
    assert failed["error_code"] == "provider_unavailable"
    assert failed["matches"] == []
    assert good["error"] is None
    assert good["matches"]


def test_a_refused_query_is_told_in_the_block(api: Api, corpus: Corpus, provider: EmbeddingServer):
    provider.faults.append(Fault("status", status=401, message="bad key"))
    (block,) = ask(api, corpus)["results"]
    assert "bad key" in block["error"]


def test_filters_and_threshold_narrow(api: Api, corpus: Corpus):
    wanted = {"item_id": [corpus.items[1], corpus.items[2]]}
    (block,) = ask(api, corpus, filters=wanted, score_threshold=-1.0)["results"]
    assert {match["item_id"] for match in block["matches"]} == set(corpus.items[1:])
    (block,) = ask(api, corpus, filters={"created_at": {"lt": "2000-01-01"}})["results"]
    assert block["matches"] == []
    (block,) = ask(api, corpus, query="the tiger burns bright", score_threshold=0.999)["results"]
    assert len(block["matches"]) == 1


def test_an_item_deleted_a_moment_ago_is_not_found_any_more(api: Api, corpus: Corpus):
    api.delete(f"/api/datasets/{corpus.dataset}/items/{corpus.items[0]}")
    (block,) = ask(api, corpus, search_mode="documents")["results"]
    assert corpus.items[0] not in {match["item_id"] for match in block["matches"]}


def test_nothing_embedded_yet_is_an_empty_answer(api: Api, provider: EmbeddingServer):
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)
    ids = made["transform"]["embedded_dataset_ids"]
    (block,) = api.post("/api/search", {"query": "x", "embedded_dataset_ids": ids})["results"]
    assert (block["matches"], block["error"]) == ([], None)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"query": " "}, "query"),
        ({"query": "x" * 8001}, "query"),
        ({"query": "x" * 1_000_000}, "query"),
        ({"query": 7}, "query"),
        ({"embedded_dataset_ids": []}, "embedded_dataset_ids"),
        ({"embedded_dataset_ids": ["1"]}, "embedded_dataset_ids.0"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"score_threshold": 2}, "score_threshold"),
        ({"search_mode": "magic"}, "search_mode"),
        ({"filters": {"page": "three"}}, "filters.page"),
        ({"filters": []}, "filters"),
        ({"search_params": {"hnsw_ef": 0}}, "search_params.hnsw_ef"),
    ],
)
def test_a_bad_question_names_the_field(api: Api, more: dict[str, Any], field: str):
    body = {"query": "x", "embedded_dataset_ids": [1], **more}
    assert api.post("/api/search", body, 400)["field"] == field


def test_a_question_of_two_megabytes_is_too_large(api: Api):
    body = {"query": "x" * 2_000_000, "embedded_dataset_ids": [1]}
    assert api.post("/api/search", body, 413)["code"] == "too_large"


def test_all_that_is_asked_is_looked_up_at_once(api: Api, corpus: Corpus, container: Container):
    sent: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(container.database.engine, "before_cursor_execute", hear)
    ask(api, corpus, embedded_dataset_ids=corpus.ids)
    assert len([one for one in sent if "FROM embedded_datasets" in one]) == 1
    field = ask(api, corpus, embedded_dataset_ids=[*corpus.ids, 987_654], status=404)["field"]
    assert field == "embedded_dataset_ids"
