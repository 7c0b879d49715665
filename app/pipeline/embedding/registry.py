"""Which embedding providers there are, their defaults and settings.

A new provider is one file, one entry here and one case in the contract tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.errors import InvalidInputError
from app.pipeline.embedding.base import Embedder, EmbedderSpec
from app.pipeline.providers import (
    Service,
    Setting,
    check_model,
    check_settings,
    find,
    load,
    offered_service,
)
from app.security.outbound import OutboundClient


@dataclass(frozen=True, slots=True)
class Provider:
    """How an embedder of this provider looks before anybody changes it."""

    address: str  # "module:class", imported on use
    title: str
    default_model: str
    default_dimensions: int
    default_max_input_tokens: int
    default_batch_size: int
    largest_batch_size: int
    remote: bool = True  # built with an HTTP client
    takes_base_url: bool = True  # else there is none, or it is the operator's to say (`Service`)
    default_base_url: str | None = None
    needs_api_key: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)


_REQUEST_DIMENSIONS = Setting(
    "boolean", "ask the provider for vectors of the configured dimensions", default=False
)
_PREFIXES = {
    "document_prefix": Setting("text", "put before every document, as some models ask", default=""),
    "query_prefix": Setting("text", "put before every query, as some models ask", default=""),
}

PROVIDERS: Mapping[str, Provider] = {
    "local": Provider(
        address="app.pipeline.embedding.local:LocalEmbedder",
        title="This machine (all-MiniLM-L6-v2)",
        default_model="all-MiniLM-L6-v2",
        default_dimensions=384,
        default_max_input_tokens=256,
        default_batch_size=64,
        largest_batch_size=4096,
        remote=False,
        takes_base_url=False,
    ),
    "openai": Provider(
        address="app.pipeline.embedding.openai:OpenAIEmbedder",
        title="OpenAI or compatible",
        default_model="text-embedding-3-small",
        default_dimensions=1536,
        default_max_input_tokens=8191,
        default_batch_size=128,
        largest_batch_size=2048,
        default_base_url="https://api.openai.com/v1",
        settings={"request_dimensions": _REQUEST_DIMENSIONS, **_PREFIXES},
    ),
    "cohere": Provider(
        address="app.pipeline.embedding.cohere:CohereEmbedder",
        title="Cohere",
        default_model="embed-v4.0",
        default_dimensions=1536,
        default_max_input_tokens=4096,
        default_batch_size=96,
        largest_batch_size=96,
        default_base_url="https://api.cohere.com",
        needs_api_key=True,
        settings={"request_dimensions": _REQUEST_DIMENSIONS},
    ),
    "internal": Provider(
        address="app.pipeline.embedding.internal:InternalEmbedder",
        title="Inference service of this installation",
        default_model="BAAI/bge-small-en-v1.5",
        default_dimensions=384,
        default_max_input_tokens=512,
        default_batch_size=128,
        largest_batch_size=128,
        takes_base_url=False,
        settings=_PREFIXES,
    ),
}


def validate(spec: EmbedderSpec) -> None:
    """Check a spec without calling anybody. Raises InvalidInputError that names the field and the rule."""
    provider = find(PROVIDERS, spec.provider)
    _in_range("dimensions", spec.dimensions, 1, 65_536)
    _in_range("max_input_tokens", spec.max_input_tokens, 8, 1_000_000)
    _in_range("batch_size", spec.batch_size, 1, provider.largest_batch_size)
    check_model(spec.model)
    if spec.truncate_strategy not in ("split", "truncate", "error"):
        raise InvalidInputError(
            "truncate_strategy must be split, truncate or error.", field="truncate_strategy"
        )
    check_settings(spec.provider, provider.settings, spec.config)


def build(
    spec: EmbedderSpec,
    http: OutboundClient,
    *,
    cache_dir: Path,
    threads: int | None = None,
    service: Service | None = None,
) -> Embedder:
    """An embedder ready to use; nothing is loaded or called before its first `embed`.

    `cache_dir` keeps the local model's graph, `threads` bounds its processor use (None or 0: all cores),
    `service` is what the internal provider asks. Raises InvalidInputError or DimensionMismatchError for a
    spec that cannot work.
    """
    validate(spec)
    provider = find(PROVIDERS, spec.provider)
    implementation = load(provider.address)
    embedder: Embedder
    if not provider.remote:
        embedder = implementation(spec, cache_dir=cache_dir, threads=threads)
    elif provider.takes_base_url:
        embedder = implementation(spec, http)
    else:
        offered = offered_service(service, spec.provider, "EMBEDDING_INFERENCE_API_URL")
        embedder = implementation(replace(spec, base_url=offered.url), offered.http)
    return embedder


def _in_range(field_name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise InvalidInputError(
            f"{field_name} must be between {lowest} and {highest}, not {value}.", field=field_name
        )
