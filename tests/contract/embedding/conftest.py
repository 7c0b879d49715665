"""The cases of the embedder suite: one line per provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.pipeline.embedding.base import Embedder, EmbedderSpec
from app.pipeline.embedding.registry import build
from app.pipeline.providers import Service
from app.security.outbound import OutboundClient, OutboundOptions
from tests.support.providers import EmbeddingServer, embedding_server

Build = Callable[..., Embedder]


@dataclass
class Case:
    """A provider under test: `build(**changes)` makes an embedder from its base spec."""

    spec: EmbedderSpec
    build: Build
    http: OutboundClient
    server: EmbeddingServer | None


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.getbasetemp().parent / "local-model"


@pytest.fixture
def http() -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


def spec_of(provider: str, server: EmbeddingServer) -> EmbedderSpec:
    if provider == "local":
        return EmbedderSpec("local", "all-MiniLM-L6-v2", 384)
    if provider == "internal":
        return EmbedderSpec(provider, "stub", server.dimensions)
    urls = {"openai": server.openai_url, "cohere": server.cohere_url}
    return EmbedderSpec(provider, "stub", server.dimensions, base_url=urls[provider], api_key="sk-secret")


@pytest.fixture(params=["openai", "cohere", "internal", "local"])
def case(
    request: pytest.FixtureRequest, server: EmbeddingServer, http: OutboundClient, model_cache: Any
) -> Case:
    return _case(request.param, server, http, model_cache)


@pytest.fixture(params=["openai", "cohere"])
def remote(
    request: pytest.FixtureRequest, server: EmbeddingServer, http: OutboundClient, model_cache: Any
) -> Case:
    return _case(request.param, server, http, model_cache)


def _case(provider: str, server: EmbeddingServer, http: OutboundClient, model_cache: Any) -> Case:
    spec = spec_of(provider, server)

    def make(**changes: Any) -> Embedder:
        service = Service(f"{server.cohere_url}/", http)
        return build(replace(spec, **changes), http, cache_dir=model_cache, threads=2, service=service)

    return Case(spec, make, http, None if provider == "local" else server)
