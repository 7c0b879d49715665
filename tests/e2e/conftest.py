"""What e2e tests share: a look into the servers behind the product."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.app_processes import RunningApp
from tests.support.providers import EmbeddingServer, embedding_server
from tests.support.stores import Stores


@pytest.fixture(scope="module")
def stores(running_app: RunningApp) -> Stores:
    return Stores(running_app.stack.environment)


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    with embedding_server(dimensions=8) as server:
        yield server
