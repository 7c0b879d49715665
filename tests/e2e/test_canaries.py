"""Secrets that were typed in are nowhere to be found afterwards: a bird in every cage, and none is heard."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import nats
import psycopg2
import pytest

from devstack.client import Pile
from tests.support.app_processes import RunningApp
from tests.support.providers import EmbeddingServer, Fault
from tests.support.stack import run_apart

TEXT = b"The committee decided to postpone the harbour extension by a year. " * 5


class Canaries:
    """Secrets by where they were put; none has a look that a filter could know."""

    def __init__(self) -> None:
        self.by_place: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self.by_place.setdefault(place, f"zilpzalp{secrets.token_hex(12)}")

    def heard(self, text: bytes) -> list[str]:
        return [place for place, value in self.by_place.items() if value.encode() in text]


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


def cages(app: RunningApp, provider: EmbeddingServer, canary: Canaries) -> Iterator[httpx.Response]:
    """Every way in for a secret, and for what people take for one."""
    good = {"name": "c", "provider": "openai", "base_url": provider.openai_url, "model": "m", "dimensions": 8}

    def send(method: str, path: str, **more: Any) -> httpx.Response:
        return app.http.request(method, path, **more)

    for noun in ("embedders", "llms"):
        body = good if noun == "embedders" else {k: v for k, v in good.items() if k != "dimensions"}
        path = f"/api/{noun}"
        made = send("POST", path, json={**body, "api_key": canary(f"{noun} key")})
        assert made.status_code == 201, made.text
        one = f"{path}/{made.json()[f'{noun[:-1]}_id']}"
        yield from (made, send("GET", one), send("GET", path))
        yield send("PATCH", one, json={"api_key": canary(f"{noun} new key")})
        for status in (401, 500, 500, 500, 500, 500, 500):
            complaint = f"wrong key {canary(f'{noun} new key')}"
            provider.faults.append(Fault("status", status=status, message=complaint))
        yield send("POST", f"{one}/test")
        yield send("POST", f"{one}/test")
        provider.faults.clear()
        yield send("POST", path, json={**body, "api_key": [canary(f"{noun} key in a list")]})
        yield send("POST", path, json={**body, "api_key": canary(f"{noun} key of two lines") + "\nx"})
        yield send("POST", path, json={**body, "config": {"api_key": canary(f"{noun} config")}})
        yield send("POST", path, json={**body, "apikey": canary(f"{noun} misspelt")})
        address = f"http://me:{canary(f'{noun} address')}@127.0.0.1:1/v1"
        yield send("POST", path, json={**body, "base_url": address})
        broken = f'{{"api_key": "{canary(f"{noun} broken json")}", '
        yield send("POST", path, content=broken, headers={"Content-Type": "application/json"})
        yield send("GET", path, params={"api_key": canary(f"{noun} query")})
    for name in ("Authorization", "X-Api-Key", "Proxy-Authorization"):
        yield send("GET", "/api/datasets/999999", headers={name: f"Bearer {canary(name)}"})
    yield send("GET", "/api/datasets/999999", headers={"Cookie": f"session={canary('cookie')}"})
    yield send("POST", "/api/nowhere", json={"password": canary("unknown address")})


def embed_with_a_refused_key(app: RunningApp, provider: EmbeddingServer, canary: Canaries) -> dict[str, Any]:
    """A job that dies of its key, whose provider tells it back: a dead letter, an error, a row."""
    pile: Pile = app.pile("Canaries")
    body = {
        "name": "canary",
        "provider": "openai",
        "base_url": provider.openai_url,
        "api_key": canary("key of a dead job"),
        "model": "stub",
        "dimensions": 8,
    }
    embedder = app.client.post("/api/embedders", body)["embedder_id"]
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    app.http.patch(path, json={"embedder_ids": [embedder]}).raise_for_status()
    complaint = f"Incorrect API key provided: {canary('key of a dead job')}"
    provider.faults.append(Fault("status", status=500, message=complaint))
    provider.faults.append(Fault("status", status=401, message=complaint))
    app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT)])
    app.wait_for("the batch to fail", lambda: app.client.get(f"{path}/stats")["total_chunks_failed"])
    answer: dict[str, Any] = app.client.get(f"{path}/batches")
    return answer


def dump(url: str) -> Iterator[bytes]:
    """Every row of every table."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT relname FROM pg_stat_user_tables ORDER BY 1")
            for (table,) in cursor.fetchall():
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                yield from (row[0].encode() for row in cursor.fetchall())
    finally:
        connection.close()


async def messages(url: str) -> list[bytes]:
    """Every message of every stream, with its headers."""
    connection = await nats.connect(url)
    try:
        jetstream = connection.jetstream()
        found = []
        for stream in await jetstream.streams_info():
            assert stream.config.name
            for sequence in range(max(1, stream.state.first_seq), stream.state.last_seq + 1):
                try:
                    message = await jetstream.get_msg(stream.config.name, sequence)
                except nats.js.errors.NotFoundError:
                    continue
                found.append(repr(message.headers).encode() + (message.data or b""))
        return found
    finally:
        await connection.close()


def test_no_secret_shows_up_anywhere_outside_its_sealed_place(
    running_app: RunningApp, provider: EmbeddingServer, canaries: Canaries
):
    answers = list(cages(running_app, provider, canaries))
    batches = embed_with_a_refused_key(running_app, provider, canaries)
    assert "Incorrect API key provided: [key]" in str(batches)  # it was told back to us
    # The servers' own secrets, which are no less.
    environment = running_app.stack.environment
    canaries.by_place["master key"] = "5e" * 32
    canaries.by_place["S3's key"] = environment["AWS_SECRET_ACCESS_KEY"]
    canaries.by_place["Postgres's password"] = environment["DATABASE_URL"].split(":")[2].split("@")[0]
    last = running_app.http.get("/api/audit-events")
    assert last.status_code == 200

    def exported() -> bool:
        return any(b"/api/audit-events" in body for body in running_app.spans.bodies)

    running_app.wait_for("the last span to arrive", exported)
    letters = run_apart(messages, environment["NATS_URL"])
    assert any(b"embed_items" in letter for letter in letters)
    logs = sorted(running_app.folder.rglob("*.log"))
    assert {"web.log", "datasets.log", "postgres.log"} <= {path.name for path in logs}
    assert b"encryption service initialized" in running_app.product.log("web").read_bytes()
    rows = list(dump(environment["DATABASE_URL"]))
    assert any(b"secret.changed" in row for row in rows)
    haystacks = {
        "answers": [answer.content + repr(answer.headers).encode() for answer in answers],
        "batches": [str(batches).encode()],
        "metrics": [running_app.http.get("/metrics").content],
        "logs": [path.read_bytes() for path in logs],
        "traces": running_app.spans.bodies,
        "messages": letters,
        "database": rows,
    }
    heard = {
        (where, each) for where, parts in haystacks.items() for part in parts for each in canaries.heard(part)
    }
    assert heard == set()
