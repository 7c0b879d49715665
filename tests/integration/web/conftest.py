"""The web application on a real database and object store; nothing carries out its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.jobs.outbox import Outbox
from app.security.principal import SINGLE_USER
from tests.support.domain import Recorder, World


@pytest.fixture(scope="session")
def bucket() -> str:
    """One for all: making a bucket takes longer than most tests."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def container(
    stack_env: dict[str, str], migrated_url: str, bucket: str, tmp_path: Path, recorder: Recorder
) -> Iterator[Container]:
    made = build(
        Settings.from_env(
            stack_env
            | {
                "DATABASE_URL": migrated_url,
                "S3_BUCKET_NAME": bucket,
                "SCRATCH_DIR": str(tmp_path),
                "ENCRYPTION_MASTER_KEY": "ab" * 32,
            }
        )
    )
    made.blobs.ensure_bucket()
    vars(made)["outbox"] = Outbox(recorder)
    vars(made)["feed"] = recorder
    made.services.owners.ensure(SINGLE_USER)
    yield made
    del vars(made)["feed"]
    made.close()


@pytest.fixture
def client(container: Container) -> FlaskClient:
    return create_app(container).test_client()


@pytest.fixture
def mine(container: Container) -> World:
    """Return a writer of rows of the one who looks at the pages."""
    return World(container.database, SINGLE_USER.owner_id)
