from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.config import Settings
from app.container import Container, build
from app.jobs.outbox import Outbox
from tests.support.domain import Recorder, World, drop_indexes


@pytest.fixture(scope="session")
def bucket() -> str:
    """One for all: making a bucket takes longer than most tests."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def container(
    stack_env: dict[str, str],
    migrated_url: str,
    bucket: str,
    recorder: Recorder,
    world: World,
    tmp_path: Path,
) -> Iterator[Container]:
    """Everything real but the stream: jobs are begun and carried out by the test."""
    settings = Settings.from_env(
        stack_env
        | {
            "DATABASE_URL": migrated_url,
            "S3_BUCKET_NAME": bucket,
            "SCRATCH_DIR": str(tmp_path),
            "ENCRYPTION_MASTER_KEY": "ab" * 32,
        }
    )
    made = build(settings)
    made.blobs.ensure_bucket()
    made.blobs.delete([blob.key for blob in made.blobs.list("")])
    vars(made)["outbox"] = Outbox(recorder)
    vars(made)["feed"] = recorder
    yield made
    drop_indexes(made)
    made.close()
