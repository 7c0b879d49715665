"""Server-sent events of the running product: live and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.app_processes import RunningApp

TEXT = b"The committee met in October and decided to postpone the harbour extension by a year. "


class Stream:
    """An open stream of events, read in order."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        self._lines = answer.iter_lines()

    def next(self) -> tuple[str, dict[str, Any], int | None]:
        """Name, data and id of the next event; comments are skipped."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line == "" and "event" in fields:
                identity = int(fields["id"]) if "id" in fields else None
                return fields["event"], json.loads(fields["data"]), identity
            name, _, value = line.partition(": ")
            fields[name] = value
        raise AssertionError("the stream ended")

    def until(self, **wanted: Any) -> tuple[dict[str, Any], int]:
        """The first status event with these fields, and its id."""
        while True:
            name, data, identity = self.next()
            if name == "status" and wanted.items() <= data.items():
                assert identity is not None
                return data, identity


@contextmanager
def listening(app: RunningApp, path: str, *, after: int | None = None) -> Iterator[Stream]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with httpx.stream("GET", f"{app.base_url}{path}", headers=headers, timeout=30) as answer:
        stream = Stream(answer)
        name, data, _ = stream.next()
        assert (name, data["resumed_after"]) == ("connected", after)
        yield stream


def test_an_upload_is_followed_live_to_its_vectors(running_app: RunningApp):
    pile = running_app.pile("Live events")
    with listening(running_app, "/api/events") as stream:
        outcome = running_app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT * 3)])
        read, first = stream.until(
            transform_type="collection", resource_id=pile.ids["collection_id"], status="success"
        )
        embedded, second = stream.until(
            transform_type="dataset", resource_id=pile.ids["dataset_id"], status="success"
        )
    assert read["detail"]["file_id"] == outcome["completed"][0]["file_id"]
    assert embedded["transform_id"] == pile.ids["dataset_transform_id"]
    assert first < second
    assert "owner_id" not in read


def test_a_reader_who_comes_back_hears_what_was_missed_and_nothing_twice(running_app: RunningApp):
    pile = running_app.pile("Missed events")
    path = f"/api/collection-transforms/stream?collection_id={pile.ids['collection_id']}"
    with listening(running_app, path) as stream:
        running_app.upload(pile.ids["collection_id"], [("first.txt", TEXT)])
        _, last_heard = stream.until(status="success")
    (missed,) = running_app.upload(pile.ids["collection_id"], [("second.txt", TEXT * 2)])["completed"]
    file_path = f"/api/collections/{pile.ids['collection_id']}/files/{missed['key']}/state"
    running_app.wait_for("the file", lambda: running_app.client.get(file_path)["state"] == "succeeded")
    with listening(running_app, path, after=last_heard) as stream:
        data, identity = stream.until(status="success")
    assert data["detail"]["file_id"] == missed["file_id"]
    assert identity > last_heard


def test_a_position_that_was_never_sent_is_refused(running_app: RunningApp):
    answer = running_app.http.get("/api/events", headers={"Last-Event-ID": "seven"})
    assert answer.status_code == 400
    assert "Last-Event-ID must be a number" in answer.json()["message"]
