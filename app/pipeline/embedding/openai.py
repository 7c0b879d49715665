"""The `openai` provider: any server that speaks POST {base_url}/embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.pipeline.embedding.base import Purpose
from app.pipeline.embedding.remote import RemoteEmbedder


class OpenAIEmbedder(RemoteEmbedder):
    """Config: `request_dimensions` (bool) sends `dimensions`; `query_prefix`, `document_prefix`."""

    largest_batch = 2048
    default_base_url = "https://api.openai.com/v1"

    def _url(self) -> str:
        return self._base_url if self._base_url.endswith("/embeddings") else f"{self._base_url}/embeddings"

    def _payload(self, texts: Sequence[str], purpose: Purpose) -> dict[str, object]:
        prefix = str(self._spec.config.get(f"{purpose}_prefix") or "")
        payload: dict[str, object] = {
            "model": self._spec.model,
            "input": [prefix + text for text in texts],
            "encoding_format": "float",
        }
        if self._spec.config.get("request_dimensions"):
            payload["dimensions"] = self._spec.dimensions
        return payload

    def _rows(self, answer: Any) -> list[list[float]]:
        entries = answer["data"]
        by_index = {int(entry["index"]): entry["embedding"] for entry in entries}
        return [by_index[index] for index in range(len(entries))]
