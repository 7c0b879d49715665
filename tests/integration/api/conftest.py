"""The web application on real servers; jobs are carried out by the test, in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from app.config import Settings
from app.container import Container, build
from app.errors import ExplorerError
from app.factory import create_app
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.failures import mark_failed
from app.storage.postgres.tables import Job
from tasks import collections as collections_pool
from tasks import datasets as datasets_pool
from tests.support.domain import Recorder, drop_indexes
from tests.support.providers import EmbeddingServer, embedding_server

ADA, BOB = Principal("ada", "Ada"), Principal("bob", "Bob")


@pytest.fixture(scope="session")
def bucket() -> str:
    """One for all: making a bucket takes longer than most tests."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def settings(stack_env: dict[str, str], migrated_url: str, bucket: str, tmp_path: Path) -> Settings:
    return Settings.from_env(
        stack_env
        | {
            "DATABASE_URL": migrated_url,
            "S3_BUCKET_NAME": bucket,
            "SCRATCH_DIR": str(tmp_path),
            "ENCRYPTION_MASTER_KEY": "ab" * 32,
            "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1",
            "MAX_FILE_SIZE_MB": "2",
        }
    )


@pytest.fixture
def container(settings: Settings, recorder: Recorder) -> Iterator[Container]:
    made = build(settings)
    made.blobs.ensure_bucket()
    # Messages are the broker's tests' matter: here the rows are what counts.
    vars(made)["outbox"] = Outbox(recorder)
    vars(made)["feed"] = recorder
    for principal in (ADA, BOB):
        made.services.owners.ensure(principal)
    yield made
    drop_indexes(made)
    del vars(made)["feed"]
    made.close()


@pytest.fixture
def client(container: Container) -> FlaskClient:
    return create_app(container).test_client()


@pytest.fixture
def objects(container: Container) -> Callable[[], int]:
    """How many stored objects there are that were not there when the test began."""

    def keys() -> set[str]:
        return {blob.key for blob in container.blobs.list("")}

    before = keys()
    return lambda: len(keys() - before)


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture
def work(container: Container) -> Callable[[], list[str]]:
    """Carry out every waiting job, and those that they cause; returns their kinds."""
    return lambda: list(_work(container))


def _work(container: Container) -> Iterator[str]:
    handlers = {**collections_pool.handlers.entries, **datasets_pool.handlers.entries}
    while True:
        with container.database.transaction() as session:
            waiting = session.scalars(
                select(Job.job_id)
                .where(Job.state == "pending", Job.kind.in_(handlers))
                .order_by(Job.created_at)
            ).all()
        if not waiting:
            return
        for job_id in waiting:
            yield _carry_out(container, job_id, handlers)


def _carry_out(container: Container, job_id: Any, handlers: dict[str, Any]) -> str:
    services = container.services
    run = services.jobs.begin(job_id, "test")
    assert run is not None
    try:
        handlers[run.contract.kind].function(services, run, run.contract)
    except ExplorerError as error:
        with container.database.transaction() as session:
            services.jobs.fail(session, run, error)
            mark_failed(session, job_id, error)
    return run.contract.kind


class Api:
    """Calls that most tests begin with; each returns the JSON of the answer and checks its status."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.client.post(path, json=body if body is not None else {})
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        answer = self.client.patch(path, json=body)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json

    def delete(self, path: str, status: int | None = None) -> Any:
        answer = self.client.delete(path)
        assert answer.status_code == (status or _deleted(path)), answer.get_data(as_text=True)
        return answer.json

    def collection(self, title: str = "Papers") -> int:
        return int(self.post("/api/collections", {"title": title}, 201)["collection_id"])

    def dataset(self, title: str = "Texts") -> int:
        return int(self.post("/api/datasets", {"title": title}, 201)["dataset_id"])

    def upload(self, collection_id: int, *files: tuple[str, bytes], status: int = 200) -> Any:
        answer = self.client.post(
            f"/api/collections/{collection_id}/files",
            data={"files": [(BytesIO(content), name) for name, content in files]},
            content_type="multipart/form-data",
        )
        answer.request.environ["wsgi.input"].close()  # the test client leaves large ones open
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json

    def collection_transform(self, collection_id: int, dataset_id: int, **more: Any) -> int:
        body = {"title": "t", "collection_id": collection_id, "dataset_id": dataset_id, **more}
        return int(self.post("/api/collection-transforms", body, 201)["collection_transform_id"])

    def embedder(self, provider: EmbeddingServer, **more: Any) -> int:
        body = {
            "name": "stub",
            "provider": "openai",
            "base_url": provider.openai_url,
            "api_key": "sk-secret",
            "model": "stub",
            "dimensions": provider.dimensions,
            **more,
        }
        return int(self.post("/api/embedders", body, 201)["embedder_id"])

    def push(self, dataset_id: int, **items: list[str]) -> Any:
        body = {
            "items": [
                {"title": title, "chunks": [{"content": text} for text in texts]}
                for title, texts in items.items()
            ]
        }
        return self.post(f"/api/datasets/{dataset_id}/items", body)


@pytest.fixture
def api(client: FlaskClient) -> Api:
    return Api(client)


def _deleted(path: str) -> int:
    """What the original answers: these three with a body."""
    with_body = r"/api/(collections|datasets)/\d+|/api/collections/\d+/files/\d+"
    return 200 if re.fullmatch(with_body, path) else 204
