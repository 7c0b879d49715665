"""A real file through the pool, cut by a provider that is full at first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from app.config import Settings
from app.container import Container, build
from app.security.principal import Principal
from app.security.tokens import digest
from app.services.provider_circuits import Passage
from app.storage.postgres.tables import ChunkRow, CollectionTransform, File, Item
from tasks import collections as collections_pool
from tasks import scope
from tests.integration.tasks.conftest import Pool
from tests.support.domain import Recorder
from tests.support.providers import EmbeddingServer, Fault, embedding_server

TEXT = "The tide rises twice a day. The moon pulls at it. Knead the dough well. Let it rise. " * 20


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture
def container(
    stack_env: dict[str, str], nats_url: str, migrated_url: str, recorder: Recorder
) -> Iterator[Container]:
    own = {
        "DATABASE_URL": migrated_url,
        "NATS_URL": nats_url,
        "RETRY_BACKOFF_SECS": "0.1,0.1,0.1,0.1",
        "RECONCILE_INTERVAL_SECS": "0",
        "S3_BUCKET_NAME": f"test-{uuid4().hex[:12]}",
        "ENCRYPTION_MASTER_KEY": "ab" * 32,
        "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1",
    }
    made = build(Settings.from_env(stack_env | own))
    made.apply_topology(dry_run=False)
    made.blobs.ensure_bucket()
    vars(made)["feed"] = recorder
    yield made
    made.close()
    made.broker.close()


@pytest.fixture
def reading(pool: Pool, provider: EmbeddingServer, tmp_path: Path) -> Pool:
    """The pool's only file, stored, and a transform that cuts it by the provider's vectors."""
    services = pool.container.services
    embedder = services.embedders.create(
        Principal("ada", "Ada"),
        {
            "provider": "openai",
            "base_url": provider.openai_url,
            "api_key": "sk-secret",
            "model": "stub",
            "dimensions": provider.dimensions,
        },
    ).embedder_id
    chunking = {"strategy": "semantic", "options": {"semantic": {"embedder_id": embedder}}}
    config = services.collection_transforms.complete({"chunking": chunking})
    path = tmp_path / "notes.txt"
    path.write_text(TEXT)
    with pool.container.database.transaction() as session:
        session.execute(update(CollectionTransform).values(job_config=config))
        key = session.scalars(select(File.object_key)).one()
    pool.container.blobs.put_file(key, path, media_type="text/plain")
    return pool


def chunks_are_spans(pool: Pool) -> bool:
    with pool.container.database.transaction() as session:
        text = session.scalars(select(Item.text)).one()
        chunks = session.scalars(select(ChunkRow).order_by(ChunkRow.position)).all()
        return bool(chunks) and all(text[one.start_char : one.end_char] == one.text for one in chunks)


def test_a_provider_that_is_full_is_asked_again_and_the_job_is_not_lost(
    reading: Pool, provider: EmbeddingServer
):
    provider.faults.extend(Fault("status", status=429) for _ in range(4))  # all tries of one attempt
    worker = reading.start(collections_pool.extract_file)
    try:
        reading.ask()
        assert reading.wait_for("succeeded").attempt == 2
    finally:
        worker.stop()
    assert chunks_are_spans(reading)
    assert reading.extraction().state == "succeeded"
    assert reading.dead_letters() == []


def test_a_provider_that_is_left_alone_costs_no_attempt_and_is_not_called(
    reading: Pool, provider: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
):
    circuits = reading.container.provider_circuits
    url = f"{provider.openai_url}/embeddings"
    key = digest(f"{url}\0Bearer sk-secret")
    monkeypatch.setattr(scope, "_SHORTEST_WAIT_SECONDS", 0.1)
    circuits.pause(Passage(key), 7.0)  # longer than a call waits itself
    worker = reading.start(collections_pool.extract_file)
    try:
        reading.ask()
        job = reading.wait_for("succeeded")
    finally:
        worker.stop()
    assert (job.attempt, job.put_off_at is not None) == (1, True)
    assert chunks_are_spans(reading)
