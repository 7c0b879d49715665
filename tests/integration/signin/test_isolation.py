"""Two people over HTTP: whatever address holds an id of Ada's, Bob hears that nothing is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from flask import Flask

from app.container import Container
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterRow, Visualization
from tests.support.identity import PUBLIC_URL, Person

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
_ADDED = {"PATCH": {"title": "mine"}}
BODIES: dict[str, Any] = {
    "embedders.update_embedder": {"name": "mine"},
    "llms.update_llm": {"name": "mine"},
    "dead_letters.replay_dead_letter": {"why": "mine"},
    "dead_letters.edit_dead_letter": {"arguments": {}},
    "dead_letters.discard_dead_letter": {"why": "mine"},
    "items.push_items": {"items": [{"title": "t", "chunks": [{"content": "mine"}]}]},
}
# Not somebody's things: files of ours, and a chart of what is on the page.
EXEMPT = {"web.static"}


class Things:
    """Makes one of each through the API, and knows the ids by the names that addresses have for them."""

    def __init__(self, person: Person, container: Container) -> None:
        self.person = person
        collection = self.make("/api/collections", {"title": "c"})["collection_id"]
        dataset = self.make("/api/datasets", {"title": "d"})["dataset_id"]
        items = self.make(f"/api/datasets/{dataset}/items", BODIES["items.push_items"])["item_ids"]
        chunks = person.get(f"/api/datasets/{dataset}/items/{items[0]}/chunks").json
        assert chunks
        embedder = self.make("/api/embedders", {"name": "e", "provider": "local"})["embedder_id"]
        llm = self.make("/api/llms", {"name": "l", "provider": "openai", "api_key": "k"})["llm_id"]
        reading = {"title": "t", "collection_id": collection, "dataset_id": dataset}
        extracting = self.make("/api/collection-transforms", reading)
        embedding = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [embedder]}
        transform = self.make("/api/dataset-transforms", embedding)
        embedded = transform["embedded_datasets"][0]["embedded_dataset_id"]
        drawing = self.make("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded})
        token = self.make("/api/auth/tokens", {"name": "t"})["api_token"]["api_token_id"]
        sessions = person.get("/api/auth/sessions").json
        assert sessions
        jobs = person.get("/api/jobs").json
        assert jobs
        self.ids = {
            "collection_id": collection,
            "dataset_id": dataset,
            "item_id": items[0],
            "chunk_id": chunks["chunks"][0]["chunk_id"],
            "point_id": chunks["chunks"][0]["chunk_id"],
            "file_key": self.upload(collection),
            "embedder_id": embedder,
            "llm_id": llm,
            "collection_transform_id": extracting["collection_transform_id"],
            "dataset_transform_id": transform["transform"]["dataset_transform_id"],
            "embedded_dataset_id": embedded,
            "visualization_transform_id": drawing["visualization_transform_id"],
            "transform_id": drawing["visualization_transform_id"],
            "visualization_id": drawing["last_visualization_id"],
            "session_id": sessions["sessions"][0]["session_id"],
            "api_token_id": token,
            "job_id": jobs["items"][0]["job_id"],
            **letters(container, person),
        }
        with container.database.transaction() as session:
            session.get_one(Visualization, self.ids["visualization_id"]).status = "completed"

    def make(self, path: str, body: Any) -> Any:
        answer = self.person.send("POST", path, body)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json

    def upload(self, collection_id: int) -> int:
        answer = self.person.client.post(
            f"/api/collections/{collection_id}/files",
            base_url=PUBLIC_URL,
            headers={"Origin": PUBLIC_URL},
            data={"files": [(BytesIO(b"hello there"), "a.txt")]},
        )
        assert answer.json, answer.text
        return int(answer.json["completed"][0]["file_id"])


def letters(container: Container, person: Person) -> dict[str, int]:
    """A dead letter and a bulk job of a person."""
    me = person.get("/api/users/@me").json
    assert me
    values = dict.fromkeys(("queue", "error_message", "cause", "fingerprint", "worker"), "x")
    numbers = dict.fromkeys(("sequence", "attempts", "size_bytes", "truncated_bytes"), 1)
    now = datetime.now(UTC)
    times = {"first_seen_at": now, "died_at": now}
    letter = DeadLetterRow(
        owner_id=me["owner_id"], stream_life="x", reason="unknown", **values, **numbers, **times
    )
    bulk = DeadLetterBulk(
        owner_id=me["owner_id"], act="replay", filter={}, why="x", created_by="x", per_second=1.0
    )
    with container.database.transaction() as session:
        session.add_all([letter, bulk])
        session.flush()
        return {"dead_letter_id": letter.dead_letter_id, "bulk_id": bulk.bulk_id}


@pytest.fixture
def things(ada: Person, container: Container) -> Things:
    container.blobs.ensure_bucket()
    return Things(ada, container)


def addresses(app: Flask, ids: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Endpoint, method and path of every route that takes an id, filled with these."""
    for rule in app.url_map.iter_rules():
        if rule.arguments and rule.endpoint not in EXEMPT:
            path = _PLACEHOLDER.sub(lambda found: str(ids[found[1]]), rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule.endpoint, method, path


def ask(person: Person, endpoint: str, method: str, path: str) -> int:
    if endpoint == "files.upload_files":
        data = {"files": [(BytesIO(b"mine"), "b.txt")]}
        headers = {"Origin": PUBLIC_URL}
        return person.client.post(path, base_url=PUBLIC_URL, headers=headers, data=data).status_code
    if method == "GET":
        return person.get(path).status_code
    return person.send(method, path, BODIES.get(endpoint, _ADDED.get(method))).status_code


def test_bob_finds_nothing_at_any_address_of_adas(app: Flask, things: Things, bob: Person):
    asked = list(addresses(app, things.ids))
    assert len(asked) > 60
    found = {f"{method} {path}": ask(bob, endpoint, method, path) for endpoint, method, path in asked}
    assert {where: status for where, status in found.items() if status != 404} == {}
    # The same addresses are there for Ada, or the test would prove nothing.
    ada = things.person
    for endpoint, method, path in asked:
        if method == "GET" and not endpoint.startswith("embedded_datasets.") and "points" not in path:
            assert ask(ada, endpoint, method, path) != 404 or "download" in path or "preview" in path, path


def test_bob_can_build_on_nothing_of_adas_and_lists_nothing_of_it(things: Things, bob: Person):
    ids = things.ids
    bodies: dict[str, Any] = {
        "collection-transforms": {"collection_id": ids["collection_id"], "dataset_id": ids["dataset_id"]},
        "dataset-transforms": {"source_dataset_id": ids["dataset_id"], "embedder_ids": [ids["embedder_id"]]},
        "visualization-transforms": {"embedded_dataset_id": ids["embedded_dataset_id"]},
    }
    for noun, body in bodies.items():
        assert bob.send("POST", f"/api/{noun}", {"title": "mine", **body}).status_code == 404, noun
    asked = {"query": "hello", "embedded_dataset_ids": [ids["embedded_dataset_id"]]}
    assert bob.send("POST", "/api/search", asked).status_code == 404
    for noun in (
        *bodies,
        "collections",
        "datasets",
        "embedders",
        "llms",
        "embedded-datasets",
        "visualizations",
    ):
        listed = bob.get(f"/api/{noun}").json
        assert listed
        assert listed["total_count"] == 0, noun
    assert bob.get("/api/visualizations/recent").json == {"items": []}
    passages = bob.send("POST", "/maps/passages", {"ids": [ids["chunk_id"]]})
    assert "mine" not in passages.text
    assert "mine" in things.person.send("POST", "/maps/passages", {"ids": [ids["chunk_id"]]}).text


def test_a_stranger_gets_nothing_at_any_address_not_even_a_stream(app: Flask, browser: Callable[[], Person]):
    stranger = browser()
    let_in = {}
    for rule in app.url_map.iter_rules():
        function = app.view_functions[rule.endpoint]
        if getattr(function, "is_public_route", False) or rule.endpoint in EXEMPT:
            continue
        path = _PLACEHOLDER.sub("11111111-1111-1111-1111-111111111111", rule.rule)
        path = re.sub(r"<int:\w+>", "1", rule.rule) if "<int:" in rule.rule else path
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = stranger.get(path) if method == "GET" else stranger.send(method, path, {})
            away = answer.status_code == 401 or answer.headers.get("Location", "").startswith("/login")
            if not away:
                let_in[f"{method} {path}"] = answer.status_code
    assert let_in == {}
