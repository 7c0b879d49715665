"""Hybrid search, rerankers, lit words, and queries that are embedded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app.container import Container
from tests.integration.api.conftest import ADA, Api
from tests.integration.api.test_search import Corpus, ask
from tests.support.providers import EmbeddingServer
from tests.support.talking import TalkFault, TalkingServer, talking_server


@pytest.fixture
def corpus(api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]) -> Corpus:
    made = Corpus(api, provider, work)
    api.push(
        made.dataset,
        manual=["set valve XK-77 to zero", "the tiger sleeps"],
        far=["nothing of that kind"],
    )
    work()
    return made


@pytest.fixture
def talker() -> Iterator[TalkingServer]:
    with talking_server() as server:
        yield server


def reranker(api: Api, talker: TalkingServer, **more: Any) -> int:
    body = {"name": "r", "provider": "cohere", "base_url": talker.cohere_url, "model": "rank-1"}
    return int(api.post("/api/llms", {**body, "api_key": "sk-secret", **more}, 201)["llm_id"])


def test_hybrid_finds_the_very_word_that_no_vector_is_near(api: Api, corpus: Corpus):
    query = "Is there a XK77? xk-77 valves"
    (near,) = ask(api, corpus, query, score_threshold=0.9)["results"]
    assert near["matches"] == []
    (both,) = ask(api, corpus, query, score_threshold=0.9, hybrid=True)["results"]
    (best,) = both["matches"]
    assert (best["text"], best["similarity"]) == ("set valve XK-77 to zero", None)
    assert best["score"] == pytest.approx(1 / 61)


def test_hybrid_keeps_to_dataset_filters_and_limit(api: Api, corpus: Corpus, container: Container):
    hers = container.services.datasets.create(ADA, title="hers").dataset_id
    other = api.dataset("other")
    api.push(other, elsewhere=["the tiger is elsewhere"])
    assert hers != other
    (block,) = ask(api, corpus, "tiger", hybrid=True, limit=100)["results"]
    found = [match["item_title"] for match in block["matches"]]
    assert "elsewhere" not in found
    assert {"tigers", "manual"} <= set(found[:3])
    (block,) = ask(api, corpus, "tiger", hybrid=True, limit=2)["results"]
    assert len(block["matches"]) == 2
    narrow = {
        "item_id": [corpus.items[0]],
        "created_at": {"gte": "2000-01-01"},
    }
    (block,) = ask(api, corpus, "tiger valve", hybrid=True, filters=narrow)["results"]
    assert {match["item_title"] for match in block["matches"]} == {"tigers"}
    (block,) = ask(api, corpus, "tiger", hybrid=True, filters={"page": {"gte": 2}})["results"]
    assert block["matches"] == []


def test_hybrid_groups_documents(api: Api, corpus: Corpus):
    (block,) = ask(api, corpus, "tiger", hybrid=True, search_mode="documents", limit=2)["results"]
    assert sorted(one["item_title"] for one in block["documents"]) == ["manual", "tigers"]
    tigers = next(one for one in block["documents"] if one["item_title"] == "tigers")
    assert tigers["chunk_count"] == 2


def test_the_index_of_words_serves_the_search_by_words(container: Container):
    with container.database.transaction() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = session.scalars(
            text(
                "EXPLAIN SELECT 1 FROM chunks WHERE to_tsvector('simple'::regconfig, left(text, 100000)) "
                "@@ to_tsquery('simple', '''tiger'':*')"
            )
        ).all()
    assert "ix_chunks_words" in "\n".join(plan)


def test_a_reranker_has_the_last_word_in_every_order(api: Api, corpus: Corpus, talker: TalkingServer):
    talker.relevance = lambda query, passage: 1.0 if "oven" in passage else 0.1
    rerank = {"llm_id": reranker(api, talker)}
    (block,) = ask(api, corpus, rerank=rerank, score_threshold=-1.0, limit=3)["results"]
    best = block["matches"][0]
    assert (best["text"], best["score"]) == ("an oven bakes bread", 1.0)
    assert best["similarity"] < block["matches"][1]["similarity"] + 1
    assert len(block["matches"]) == 3
    (request,) = talker.requests
    assert request["path"] == "/v2/rerank"
    assert request["headers"]["authorization"] == "Bearer sk-secret"
    body = request["body"]
    assert (body["model"], body["query"], len(body["documents"])) == ("rank-1", "tiger bright", body["top_n"])
    compatible = {
        "llm_id": reranker(api, talker, provider="openai", base_url=talker.openai_url),
        "model": "m2",
    }
    (block,) = ask(
        api, corpus, rerank=compatible, hybrid=True, search_mode="documents", score_threshold=-1.0
    )["results"]
    assert block["documents"][0]["item_title"] == "stoves"
    assert (talker.requests[-1]["path"], talker.requests[-1]["body"]["model"]) == ("/v1/rerank", "m2")


def test_a_reranker_that_fails_is_told_in_the_block_and_one_of_somebody_else_is_not_there(
    api: Api, corpus: Corpus, talker: TalkingServer, container: Container
):
    mine = reranker(api, talker)
    talker.faults.append(TalkFault("status", status=401, message="bad key sk-secret"))
    (block,) = ask(api, corpus, rerank={"llm_id": mine})["results"]
    assert (block["error_code"], block["matches"]) == ("provider_refused", [])
    assert "bad key [key]" in block["error"]
    hers = container.services.llms.create(ADA, {"name": "l", "provider": "openai", "is_public": True}).llm_id
    assert ask(api, corpus, status=404, rerank={"llm_id": hers})["field"] == "rerank.llm_id"
    assert (
        ask(api, corpus, status=400, rerank={"llm_id": mine, "candidates": 0})["field"] == "rerank.candidates"
    )
    inside = api.post("/api/llms", {"name": "ours", "provider": "internal"}, 201)["llm_id"]
    assert ask(api, corpus, status=400, rerank={"llm_id": inside})["field"] == "rerank.llm_id"


def test_the_words_of_a_query_are_lit_where_they_stand(api: Api, corpus: Corpus):
    (block,) = ask(api, corpus)["results"]
    best = block["matches"][0]
    lit = [best["text"][one["start"] : one["end"]] for one in best["highlights"]]
    assert lit == ["tiger", "bright"]
    assert best["similarity"] == best["score"]


def test_a_query_is_embedded_once_per_embedder_until_the_embedder_changes(
    api: Api, corpus: Corpus, provider: EmbeddingServer
):
    before = len(provider.requests)
    for limit in (1, 2):
        ask(api, corpus, "fresh words", embedded_dataset_ids=corpus.ids, limit=limit)
    assert len(provider.requests) == before + 2
    api.patch(f"/api/embedders/{corpus.embedders[0]}", {"name": "renamed"})
    ask(api, corpus, "fresh words")
    assert len(provider.requests) == before + 3
