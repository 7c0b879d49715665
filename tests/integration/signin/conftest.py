"""The web application with sign-in: real database, object store and identity provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask

from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.jobs.outbox import Outbox
from tests.support.domain import Recorder
from tests.support.identity import IdentityProvider, Person


@pytest.fixture(scope="session")
def bucket() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def settings(
    stack_env: dict[str, str],
    migrated_url: str,
    bucket: str,
    tmp_path: Path,
    identity_provider: IdentityProvider,
) -> Settings:
    return Settings.from_env(
        stack_env
        | {
            "DATABASE_URL": migrated_url,
            "S3_BUCKET_NAME": bucket,
            "SCRATCH_DIR": str(tmp_path),
            "ENCRYPTION_MASTER_KEY": "ab" * 32,
            "HOSTNAME": "0.0.0.0",  # with sign-in, others may reach the server
            "RATE_LIMIT_SIGN_IN": "0",  # forgers try more often than it allows; it has tests of its own
        }
        | identity_provider.environment()
    )


@pytest.fixture
def container(settings: Settings, recorder: Recorder) -> Iterator[Container]:
    made = build(settings)
    vars(made)["outbox"] = Outbox(recorder)
    vars(made)["feed"] = recorder
    yield made
    del vars(made)["feed"]
    made.close()


@pytest.fixture
def app(container: Container) -> Flask:
    return create_app(container)


@pytest.fixture
def browser(app: Flask, identity_provider: IdentityProvider) -> Callable[[], Person]:
    """Return a maker of browsers, each with cookies of its own."""
    return lambda: Person(app.test_client(), identity_provider)


@pytest.fixture
def ada(browser: Callable[[], Person]) -> Person:
    person = browser()
    assert person.sign_in("ada").status_code == 303
    return person


@pytest.fixture
def bob(browser: Callable[[], Person]) -> Person:
    person = browser()
    assert person.sign_in("bob").status_code == 303
    return person
