"""Every list that the document says takes a cursor is walked by it, two rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from app.container import Container
from app.storage.postgres.tables import ChatMessage, Visualization
from app.storage.postgres.tables.dead_letters import DeadLetterBulk
from tests.integration.api.conftest import Api
from tests.integration.api.test_cursors import walk
from tests.support.providers import EmbeddingServer

SORTS = {
    "collection": ("title", "is_enabled", "created_at", "updated_at", "chunk_size"),
    "dataset": ("title", "is_enabled", "created_at", "updated_at"),
    "visualization": ("title", "is_enabled", "created_at", "updated_at", "last_run_status"),
}


@pytest.fixture
def lists(
    api: Api, container: Container, provider: EmbeddingServer, work: Callable[[], list[str]]
) -> list[tuple[str, str]]:
    """Addresses of lists with three rows or more, and the names of their rows."""
    public = {"is_public": True}
    collection, *_ = (api.post("/api/collections", {"title": t, **public}, 201) for t in "abc")
    dataset, *_ = (api.post("/api/datasets", {"title": t, **public}, 201) for t in "abc")
    embedders = [api.embedder(provider, name=name, **public) for name in ("b", "a", "a")]
    served = {"provider": "openai", "api_key": "k", **public}
    llm, *_ = (api.post("/api/llms", {"name": name, **served}, 201)["llm_id"] for name in ("b", "a", "a"))
    into, source = collection["collection_id"], dataset["dataset_id"]
    for embedder in embedders:
        api.collection_transform(into, source)
        body = {"title": "t", "source_dataset_id": source, "embedder_ids": [embedder]}
        api.post("/api/dataset-transforms", body, 201)
    api.upload(into, ("bad.pdf", b"%PDF-1.7\nthis is not a PDF\n"))
    (item,) = api.push(source, poem=["one", "two", "three"])["item_ids"]
    work()
    embedded = api.get("/api/embedded-datasets")["embedded_datasets"][0]["embedded_dataset_id"]
    for title in "abc":
        api.post("/api/visualization-transforms", {"title": title, "embedded_dataset_id": embedded}, 201)
    about = {"embedded_dataset_id": embedded, "llm_id": llm}
    sessions = [api.post("/api/chat/sessions", about, 201)["session_id"] for _ in range(3)]
    fill(container, sessions[0])
    parent, transform = f"/api/datasets/{source}", f"/api/embedded-datasets/{embedded}"
    return [
        *((f"/api/marketplace/{kind}", "items") for kind in ("datasets", "embedders", "llms")),
        ("/api/marketplace/collections", "collections"),
        *((f"/api/{kind}", "items") for kind in ("embedders", "llms", "datasets/embedders")),
        *((each, "embedded_datasets") for each in ("/api/embedded-datasets", f"{parent}/embedded-datasets")),
        *((each, "items") for each in (f"{parent}/transforms", f"{parent}/collection-transforms")),
        (f"/api/collections/{into}/transforms", "items"),
        (f"/api/collections/{into}/failed-files", "items"),
        (f"{parent}/items/{item}/chunks", "chunks"),
        *((each, "items") for each in ("/api/visualizations", f"{transform}/visualizations")),
        ("/api/chat/sessions", "sessions"),
        (f"/api/chat/sessions/{sessions[0]}/messages", "messages"),
        ("/api/usage/owners", "items"),
        ("/api/dead-letters/bulks", "items"),
    ]


def fill(container: Container, session_id: int) -> None:
    """What a model would have said, bulk jobs, and maps of which one is done and one is not."""
    owner = {"owner_id": "local"}
    bulk = {"act": "discard", "filter": {}, "why": "w", "created_by": "local", "per_second": 1}
    with container.database.transaction() as session:
        said = {"session_id": session_id, "role": "user", "content": "hello", "status": "complete"}
        session.add_all([ChatMessage(**said) for _ in range(3)])
        session.add_all([DeadLetterBulk(**owner, **bulk) for _ in range(3)])
        newest = select(func.max(Visualization.visualization_id)).scalar_subquery()
        ended = update(Visualization).where(Visualization.visualization_id == newest)
        session.execute(ended.values(status="completed", stats_json={"noise": 3}))


def test_every_list_is_walked_without_loss_in_every_order(api: Api, lists: list[tuple[str, str]]):
    sorted_lists = [
        (f"/api/{kind}-transforms?sort_by={column}&sort_direction={direction}", "items")
        for kind, columns in SORTS.items()
        for column in columns
        for direction in ("asc", "desc")
    ]
    for path, field in [*((f"{path}?", field) for path, field in lists), *sorted_lists]:
        whole = api.get(f"{path}&limit=100")
        assert whole["next_cursor"] is None, path
        assert len(whole[field]) > 2, path
        assert walk(api, f"{path}&limit=2", field) == whole[field], path

    check_last_runs(api)
    check_origins(api, next(path for path, _ in lists if path.endswith("failed-files")))


def check_last_runs(api: Api) -> None:
    """What was last run is told, and sorted by."""
    ordered = api.get("/api/visualization-transforms?sort_by=last_run_status&sort_direction=asc")["items"]
    assert [one["last_run_status"] for one in ordered] == ["completed", "pending", "pending"]
    run = api.get(f"/api/visualizations/{ordered[0]['last_visualization_id']}")
    assert (ordered[0]["last_run_at"], ordered[0]["last_run_stats"]) == (run["created_at"], {"noise": 3})


def check_origins(api: Api, failed_files: str) -> None:
    """Failed files and embedded datasets say where they come from."""
    failed = api.get(failed_files)["items"]
    told = [(one["transform_title"], one["process_status"], one["item_count"]) for one in failed]
    assert told == [("t", "failed", 0)] * 3
    assert "PDF" in failed[0]["process_error"]
    one = failed[0]["collection_transform_id"]
    (row,) = api.get(f"/api/collection-transforms/{one}/processed-files?status=failed")["items"]
    assert row.items() <= failed[0].items()
    assert api.get(f"/api/collection-transforms/{one}/processed-files?status=completed")["items"] == []
    (embedded, *_) = api.get("/api/embedded-datasets")["embedded_datasets"]
    collection = api.get(f"/api/collections/{embedded['collection_id']}")
    assert (collection["title"], embedded["collection_title"]) == ("a", "a")
