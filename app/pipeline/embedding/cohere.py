"""The `cohere` provider: POST {base_url}/v2/embed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.pipeline.embedding.base import Purpose
from app.pipeline.embedding.remote import RemoteEmbedder


class CohereEmbedder(RemoteEmbedder):
    """Documents and queries are embedded as what they are. Config: `request_dimensions` (bool)."""

    largest_batch = 96
    default_base_url = "https://api.cohere.com"

    def _url(self) -> str:
        base = self._base_url.removesuffix("/embed")
        return f"{base}/embed" if base.endswith("/v2") else f"{base}/v2/embed"

    def _payload(self, texts: Sequence[str], purpose: Purpose) -> dict[str, object]:
        payload: dict[str, object] = {
            "model": self._spec.model,
            "texts": list(texts),
            "input_type": f"search_{purpose}",
            "embedding_types": ["float"],
            "truncate": "NONE",  # we cut, and count; the provider must not
        }
        if self._spec.config.get("request_dimensions"):
            payload["output_dimension"] = self._spec.dimensions
        return payload

    def _rows(self, answer: Any) -> list[list[float]]:
        rows: list[list[float]] = answer["embeddings"]["float"]
        return rows
