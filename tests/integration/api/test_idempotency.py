from __future__ import annotations

import threading
from datetime import timedelta
from io import BytesIO
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import func, select, update

from app.container import Container
from app.factory import create_app
from app.services.idempotency import Claim
from app.storage.postgres.tables import IdempotentRequest, Job
from tests.integration.api.conftest import ADA, Api
from tests.support.providers import EmbeddingServer


def post(client: FlaskClient, path: str, body: Any, key: str) -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def test_a_repetition_acts_once_and_gets_the_first_answer_from_every_replica(
    api: Api, container: Container, provider: EmbeddingServer
):
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    first = post(api.client, "/api/dataset-transforms", body, "a-1")
    reordered = dict(reversed(body.items()))
    again = post(create_app(container).test_client(), "/api/dataset-transforms", reordered, "a-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json == first.json
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (
        None,
        "true",
    )
    assert api.get("/api/dataset-transforms")["total_count"] == 1
    with container.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_key_stands_for_one_request_of_one_route(api: Api):
    assert post(api.client, "/api/collections", {"title": "one"}, "k").status_code == 201
    other = post(api.client, "/api/collections", {"title": "two"}, "k")
    assert (other.status_code, other.json["code"], other.json["field"]) == (
        422,
        "unprocessable",
        "Idempotency-Key",
    )
    assert post(api.client, "/api/datasets", {"title": "one"}, "k").status_code == 201
    for key in ("", "white space", "x" * 256, "ä"):
        answer = post(api.client, "/api/collections", {"title": "one"}, key)
        assert (answer.status_code, answer.json["field"]) == (400, "Idempotency-Key")
    assert post(api.client, "/api/search", {}, "k").json["message"] == "/api/search takes no Idempotency-Key"


def test_what_was_refused_may_be_sent_again(api: Api):
    assert post(api.client, "/api/collections", {"title": ""}, "k").status_code == 400
    assert post(api.client, "/api/collections", {"title": "good"}, "k").status_code == 201


def test_an_upload_is_known_again_by_its_files_whatever_separates_them(api: Api):
    path = f"/api/collections/{api.collection()}/files"

    def send(content: bytes) -> Any:
        answer = api.client.post(
            path,
            data={"files": [(BytesIO(content), "a.txt")]},
            content_type=f"multipart/form-data; boundary=b{len(content)}",
            headers={"Idempotency-Key": "u"},
        )
        return answer.status_code, answer.json

    first = send(b"one")
    assert first[1]["completed"][0]["unchanged"] is False
    assert send(b"one") == first
    assert send(b"two!")[0] == 422


def test_of_many_at_once_one_acts_and_the_others_hear_that_it_does(container: Container):
    idempotency, barrier = container.services.idempotency, threading.Barrier(6)
    outcomes: list[str] = []

    def ask() -> None:
        barrier.wait()
        try:
            found = idempotency.begin(ADA, route="POST /x", key="k", fingerprint="f")
            outcomes.append(type(found).__name__)
        except Exception as error:  # noqa: BLE001 - its name is the outcome
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Claim", *["ConflictError"] * 5]


def test_what_has_expired_is_carried_out_anew_and_swept(container: Container):
    idempotency = container.services.idempotency
    claims = [idempotency.begin(ADA, route="POST /x", key=key, fingerprint="f") for key in ("a", "b")]
    with container.database.transaction() as session:
        session.execute(update(IdempotentRequest).values(expires_at=func.now() - timedelta(seconds=1)))
    late = idempotency.begin(ADA, route="POST /x", key="a", fingerprint="another")
    assert isinstance(late, Claim)
    assert isinstance(claims[0], Claim)
    idempotency.release(claims[0])  # comes too late: the row is another's
    with container.database.transaction() as session:
        assert session.scalars(select(IdempotentRequest.fingerprint)).all() == ["another"]
