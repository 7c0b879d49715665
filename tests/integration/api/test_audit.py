"""What people do is in the audit log, with who and from where, and without what was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text

from app.container import Container
from app.security.principal import Role
from app.services.audit_trail import AUDITED
from app.storage.postgres.tables import AuditEvent
from tests.integration.api.conftest import ADA, BOB, Api
from tests.support.providers import EmbeddingServer

CANARY = "zebra-in-the-details"
SIGN_IN = {"api_token", "session", "user"}  # tests/integration/audit/test_sessions.py


@pytest.fixture
def events(container: Container) -> Callable[[], list[AuditEvent]]:
    def read() -> list[AuditEvent]:
        with container.database.transaction() as session:
            return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))

    return read


def told(events: list[AuditEvent]) -> list[tuple[str, str | None]]:
    return [(event.action, event.object_id) for event in events]


def test_a_request_is_recorded_with_its_person_number_and_address(
    api: Api, events: Callable[[], list[AuditEvent]]
):
    answer = api.client.post(
        "/api/collections", json={"title": CANARY}, headers={"X-Request-ID": "the-request"}
    )
    (event,) = events()
    assert (event.action, event.object_kind) == ("collection.created", "collection")
    assert answer.json
    assert event.object_id == str(answer.json["collection_id"])
    assert (event.owner_id, event.actor, event.outcome) == ("local", "local", "success")
    assert (event.request_id, event.address) == ("the-request", "127.0.0.1")


def test_keys_are_recorded_when_they_come_change_and_go(
    api: Api, provider: EmbeddingServer, events: Callable[[], list[AuditEvent]]
):
    key = api.embedder(provider, name=CANARY)
    api.patch(f"/api/embedders/{key}", {"api_key": "sk-other", "name": "new"})
    api.patch(f"/api/embedders/{key}", {"api_key": ""})
    api.patch(f"/api/embedders/{key}", {"api_key": ""})
    llm = api.post("/api/llms", {"name": "l", "provider": "openai", "api_key": "sk-llm"}, 201)["llm_id"]
    api.delete(f"/api/embedders/{key}")
    assert told(events()) == [
        ("embedder.created", str(key)),
        ("secret.set", str(key)),
        ("secret.changed", str(key)),
        ("embedder.changed", str(key)),
        ("secret.removed", str(key)),
        ("llm.created", str(llm)),
        ("secret.set", str(llm)),
        ("embedder.deleted", str(key)),
    ]
    assert events()[3].details == {"fields": ["name"]}


def test_no_event_holds_what_was_written(
    api: Api, provider: EmbeddingServer, container: Container, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    key = api.embedder(provider, name=CANARY, api_key=CANARY)
    collection = api.collection(CANARY)
    api.patch(f"/api/collections/{collection}", {"details": CANARY, "is_public": True})
    api.patch(f"/api/embedders/{key}", {"api_key": CANARY + "2"})
    with container.database.transaction() as session:
        dump = "\n".join(session.scalars(text("SELECT e::text FROM audit_events e")))
    assert '""is_public"": true' in dump
    assert "audit: secret.changed" in caplog.text
    assert CANARY not in dump + caplog.text


def test_every_table_that_is_audited_tells_of_its_deletion(
    api: Api, container: Container, events: Callable[[], list[AuditEvent]]
):
    collection, dataset = api.collection(), api.dataset()
    file = api.upload(collection, ("a.txt", b"some text"))["completed"][0]["file_id"]
    api.push(dataset, one=["a passage"])
    item = api.get(f"/api/datasets/{dataset}/items")["items"][0]["item_id"]
    transform = api.collection_transform(collection, dataset)
    embedder = api.post("/api/embedders", {"name": "e", "provider": "local"}, 201)["embedder_id"]
    made = api.post(
        "/api/dataset-transforms",
        {"title": "t", "source_dataset_id": dataset, "embedder_ids": [embedder]},
        201,
    )["transform"]
    embedded = (
        made["embedded_datasets"][0] if "embedded_datasets" in made else made["embedded_dataset_ids"][0]
    )
    embedded_id = embedded["embedded_dataset_id"] if isinstance(embedded, dict) else embedded
    maps = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded_id}, 201)
    map_id = maps.get("visualization_transform_id") or maps["transform"]["visualization_transform_id"]
    with container.database.transaction() as session:
        drawn = session.scalar(text("SELECT visualization_id FROM visualizations"))
    llm = api.post("/api/llms", {"name": "l", "provider": "openai"}, 201)["llm_id"]
    chat = api.post("/api/chat/sessions", {"embedded_dataset_id": embedded_id, "llm_id": llm}, 201)
    created = {event.action for event in events() if event.action.endswith(".created")}
    before = len(events())
    api.delete(f"/api/collections/{collection}/files/{file}")
    api.delete(f"/api/datasets/{dataset}/items/{item}")
    api.delete(f"/api/chat/sessions/{chat['session_id']}")
    api.delete(f"/api/visualizations/{drawn}")
    api.delete(f"/api/visualization-transforms/{map_id}")
    api.delete(f"/api/embedded-datasets/{embedded_id}")
    api.delete(f"/api/dataset-transforms/{made['dataset_transform_id']}")
    api.delete(f"/api/collection-transforms/{transform}")
    api.delete(f"/api/collections/{collection}")
    api.delete(f"/api/datasets/{dataset}")
    api.delete(f"/api/embedders/{embedder}")
    api.delete(f"/api/llms/{llm}")
    gone = {action for action, _ in told(events()[before:])}
    things = [kind for kind in AUDITED.values() if kind.noun not in SIGN_IN]
    assert gone == {f"{kind.noun}.deleted" for kind in things}
    assert created == {f"{kind.noun}.created" for kind in things if "created" in kind.verbs}


def test_an_admin_reads_all_events_and_others_their_own(container: Container):
    admin, bob = replace(BOB, role=Role.ADMIN), replace(BOB, role=Role.OPERATOR)
    container.services.collections.create(ADA, title="Ada's")
    container.services.collections.create(BOB, title="Bob's")
    container.audit.note("streams.applied")
    assert [one.owner_id for one in container.audit.list(admin).items] == [None, "bob", "ada"]
    assert [one.owner_id for one in container.audit.list(bob).items] == ["bob"]


def test_events_are_read_page_by_page(api: Api):
    made = [api.collection(str(number)) for number in range(5)]
    api.dataset()
    seen: list[dict[str, Any]] = []
    token = ""
    while True:
        page = api.get(f"/api/audit-events?limit=2&object_kind=collection{token}")
        seen += page["items"]
        if not page["has_more"]:
            break
        token = f"&continuation_token={page['continuation_token']}"
    assert [int(one["object_id"]) for one in seen] == made[::-1]
    assert "mac" not in seen[0]
    assert api.get("/api/audit-events?action=dataset.created")["items"][0]["actor"] == "local"
    assert api.get("/api/audit-events?continuation_token=YWJj", 400)["field"] == "continuation_token"
