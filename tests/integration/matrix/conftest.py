"""One database with two tenants for the whole matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask

from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.jobs.outbox import Outbox
from tests.integration.matrix.tenants import Asker, Things, bearer, strangers, token_of
from tests.support.domain import Recorder
from tests.support.identity import IdentityProvider, Person
from tests.support.providers import embedding_server
from tests.support.stack import Databases
from tests.support.talking import talking_server


@dataclass(frozen=True)
class World:
    """The application, what Ada and Bob have in it, and who asks."""

    app: Flask
    container: Container
    ada: Things
    bob: Things
    strangers: list[Asker]
    tenant: Asker  # Bob, in person
    reader: Asker  # a machine of Ada's that may only read
    admin: Callable[[], Things]  # makes a third person, with the same things, for one test to do away with


@pytest.fixture(scope="module")
def container(
    stack_env: dict[str, str],
    databases: Databases,
    migrated_template: str,
    identity_provider: IdentityProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Container]:
    url = databases.create(template=migrated_template)
    with embedding_server() as served:
        yield from _container(
            url, stack_env, identity_provider, tmp_path_factory.mktemp("matrix"), served.cohere_url
        )
    databases.drop(url)


def _container(
    url: str, stack_env: dict[str, str], identity_provider: IdentityProvider, scratch: Path, inference: str
) -> Iterator[Container]:
    environment = {
        "EMBEDDING_INFERENCE_API_URL": inference,
        "LLM_INFERENCE_API_URL": inference,
        "DATABASE_URL": url,
        "S3_BUCKET_NAME": f"test-{uuid4().hex[:12]}",
        "SCRATCH_DIR": str(scratch),
        "ENCRYPTION_MASTER_KEY": "ab" * 32,
        "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1",
        "HOSTNAME": "0.0.0.0",
        **{
            f"RATE_LIMIT_{name}": "0"
            for name in ("ADDRESS", "SIGN_IN", "TOKEN", "USER", "SEARCH", "UPLOAD", "STREAM")
        },
    }
    made = build(Settings.from_env(stack_env | environment | identity_provider.environment()))
    made.apply_topology(dry_run=False)
    made.blobs.ensure_bucket()
    vars(made)["outbox"] = Outbox(Recorder(made.database))
    yield made
    made.close()
    made.broker.close()


@pytest.fixture(scope="module")
def world(
    container: Container, identity_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    app = create_app(container)

    def new() -> Person:
        return Person(app.test_client(), identity_provider)

    folder: Path = tmp_path_factory.mktemp("maps")
    with embedding_server() as provider, talking_server() as model:

        def things_of(name: str) -> Things:
            person = new()
            assert person.sign_in(name).status_code == 303
            return Things(person, container, (provider, model), folder)

        things = [things_of(name) for name in ("ada", "bob")]
        ada = things[0].person
        yield World(
            app,
            container,
            things[0],
            things[1],
            strangers(new, ada, container, identity_provider),
            bearer("another tenant", identity_provider.access_token("bob")),
            bearer("a machine that may only read", token_of(ada, "read")),
            lambda: things_of("root"),
        )
