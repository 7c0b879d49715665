from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app.api import run_stream, sse
from app.api.sse import DRAINING
from app.config import Settings
from app.container import Container, build
from app.events.types import StatusEvent
from app.factory import create_app
from tests.integration.api.conftest import Api, _work


@pytest.fixture
def live(settings: Settings, nats_url: str) -> Iterator[Container]:
    """A container with the real status stream."""
    assert nats_url == settings.nats_url
    made = build(settings)
    made.apply_topology(dry_run=False)
    yield made
    made.close()
    made.broker.close()


@pytest.fixture
def app(live: Container, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(sse, "_LOOK_UP_SECONDS", 0.05)
    return create_app(live)


def event(owner_id: str = "local", kind: str = "collection", resource_id: int = 7) -> StatusEvent:
    return StatusEvent(
        transform_type=kind,
        transform_id=1,
        resource_id=resource_id,
        owner_id=owner_id,
        status="success",
        timestamp=datetime.now(UTC).isoformat(),
    )


class Stream:
    """An open event stream, read one event at a time; comments are skipped."""

    def __init__(self, app: Flask, path: str, last_event_id: int | None = None) -> None:
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        self.answer = app.test_client().get(path, headers=headers)
        assert self.answer.mimetype == "text/event-stream"
        self.parts = self.answer.iter_encoded()

    def next(self) -> tuple[str, dict[str, Any], int | None]:
        while True:
            part = next(self.parts)
            lines = dict(
                line.split(": ", 1)
                for line in part.decode().splitlines()
                if ": " in line and not line.startswith(":")
            )
            if "event" in lines:
                identity = int(lines["id"]) if "id" in lines else None
                return lines["event"], json.loads(lines["data"]), identity

    def close(self) -> None:
        self.answer.close()


def test_an_owner_sees_what_happens_to_the_own_transforms_only(app: Flask, live: Container):
    stream = Stream(app, "/api/events")
    assert stream.next()[0] == "connected"
    live.feed.publish(event(owner_id="bob", resource_id=8))
    live.feed.publish(event(resource_id=9))
    name, data, sequence = stream.next()
    assert (name, data["resource_id"], data["status"]) == ("status", 9, "success")
    assert sequence
    assert "owner_id" not in data
    stream.close()


def test_a_stream_of_one_kind_may_be_of_one_resource(app: Flask, live: Container):
    stream = Stream(app, "/api/collection-transforms/stream?collection_id=7")
    assert stream.next()[0] == "connected"
    live.feed.publish(event(kind="dataset", resource_id=7))
    live.feed.publish(event(resource_id=8))
    live.feed.publish(event(resource_id=7))
    name, data, _ = stream.next()
    assert (name, data["transform_type"], data["resource_id"]) == ("status", "collection", 7)
    stream.close()


def test_a_reader_who_comes_back_gets_what_was_missed(app: Flask, live: Container):
    first = Stream(app, "/api/events")
    first.next()
    live.feed.publish(event(resource_id=1))
    _, _, seen = first.next()
    live.feed.publish(event(resource_id=2))
    first.next()
    first.close()
    again = Stream(app, "/api/events", last_event_id=seen)
    assert again.next()[0] == "connected"
    assert again.next()[1]["resource_id"] == 2
    again.close()


def test_a_reader_who_comes_back_where_nothing_can_be_told_is_sent_to_the_truth(app: Flask, live: Container):
    stream = Stream(app, "/api/events", last_event_id=10**17)
    assert stream.next()[0] == "connected"
    name, data, position = stream.next()
    assert (name, list(data), position) == ("reset", ["reason"], 0)
    live.feed.publish(event())
    assert stream.next()[::2] == ("status", 1)
    stream.close()


def test_a_reader_who_heard_nothing_knows_where_to_come_back_to(app: Flask, live: Container):
    first = Stream(app, "/api/events")
    name, _, position = first.next()
    first.close()
    assert (name, position) == ("connected", 0)
    live.feed.publish(event(resource_id=3))
    again = Stream(app, "/api/events", last_event_id=position)
    assert again.next()[::2] == ("connected", None)
    assert again.next()[1]["resource_id"] == 3
    again.close()


def test_a_stopping_server_ends_its_streams(app: Flask):
    stopping = False
    app.extensions[DRAINING] = lambda: stopping
    stream = Stream(app, "/api/events")
    stream.next()
    stopping = True
    assert stream.next()[0] == "closed"
    assert list(stream.parts) == []
    stream.close()


def test_a_silent_stream_says_that_it_lives(app: Flask, live: Container, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "_HEARTBEAT_SECONDS", 0.2)
    stream = Stream(app, "/api/events")
    stream.next()
    live.feed.publish(event(owner_id="bob"))
    assert next(stream.parts) == b": still here\n\n"
    stream.close()


def test_a_made_up_position_is_refused(app: Flask):
    answer = app.test_client().get("/api/events", headers={"Last-Event-ID": "seven"})
    assert answer.status_code == 400


def test_a_run_is_followed_from_its_rows_until_it_has_ended(
    app: Flask, live: Container, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_stream, "_PAUSE_SECONDS", 0.0)
    live.blobs.ensure_bucket()
    api = Api(app.test_client())
    collection = api.collection()
    transform = f"/api/collection-transforms/{api.collection_transform(collection, api.dataset())}"
    list(_work(live))
    api.upload(collection, ("a.txt", b"The tide rises."), ("b.txt", b"And falls."))
    (run,) = api.get(f"{transform}/runs")["items"]
    stream = Stream(app, f"{transform}/runs/{run['run_id']}/stream")
    assert [stream.next()[:2], stream.next()[:2]] == [
        ("connected", {"resumed_after": None}),
        ("progress", run),
    ]
    list(_work(live))
    seen = [run]
    while (told := stream.next())[0] == "progress":
        seen.append(told[1])
    assert (told[0], told[1]["reason"]) == ("closed", "the run has ended")
    assert (seen[-1]["status"], seen[-1]["progress"]["done"]) == ("completed", 2)
    assert app.test_client().get(f"{transform}/runs/{uuid4()}/stream").status_code == 404
