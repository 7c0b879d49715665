"""The `internal` provider: the operator's own inference service, POST {url}/api/embed/batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.pipeline.embedding.base import Purpose
from app.pipeline.embedding.remote import RemoteEmbedder


class InternalEmbedder(RemoteEmbedder):
    """Config: `query_prefix`, `document_prefix`, which the service does not know of."""

    largest_batch = 128

    def _url(self) -> str:
        return f"{self._base_url}/api/embed/batch"

    def _payload(self, texts: Sequence[str], purpose: Purpose) -> dict[str, object]:
        prefix = str(self._spec.config.get(f"{purpose}_prefix") or "")
        return {"model": self._spec.model, "texts": [prefix + text for text in texts]}

    def _rows(self, answer: Any) -> list[list[float]]:
        rows: list[list[float]] = answer["embeddings"]
        return rows
