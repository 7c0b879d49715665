"""The `cohere` provider: POST {base_url}/v2/chat."""

from __future__ import annotations

from typing import Any

from app.pipeline.generation.remote import RemoteLanguageModel


class CohereModel(RemoteLanguageModel):
    """An answer comes in blocks, of which those of type `text` count."""

    default_base_url = "https://api.cohere.com"
    path = "/v2/chat"

    def _options(self, max_tokens: int) -> dict[str, object]:
        return {"max_tokens": max_tokens}

    def _text(self, answer: Any) -> str:
        blocks = answer["message"]["content"] or []
        return "".join(str(block["text"]) for block in blocks if block["type"] == "text")

    def _piece(self, event: Any) -> tuple[str, str]:
        if event["type"] == "content-delta":
            return str(event["delta"]["message"]["content"].get("text") or ""), ""
        if event["type"] == "message-end":
            return "", str(event["delta"]["finish_reason"])
        return "", ""  # starts and ends of blocks, plans of tools, citations of documents we did not send
