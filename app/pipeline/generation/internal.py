"""The `internal` provider: the operator's own inference service, POST {url}/api/chat."""

from __future__ import annotations

from typing import Any

from app.pipeline.generation.remote import RemoteLanguageModel


class InternalModel(RemoteLanguageModel):
    """A streamed answer just ends: the service says neither why nor what it cost."""

    path = "/api/chat"
    stream_path = "/api/chat/stream"
    tells_its_end = False

    def _options(self, max_tokens: int) -> dict[str, object]:
        return {"max_tokens": max_tokens}

    def _text(self, answer: Any) -> str:
        return str(answer["message"]["content"])

    def _piece(self, event: Any) -> tuple[str, str]:
        return str(event["content"]), ""
