"""The `openai` provider: any server that speaks POST {base_url}/chat/completions."""

from __future__ import annotations

from typing import Any

from app.pipeline.generation.remote import RemoteLanguageModel


class OpenAIModel(RemoteLanguageModel):
    """Config: `max_completion_tokens` (bool) sends the limit by the name that reasoning models ask for."""

    default_base_url = "https://api.openai.com/v1"
    path = "/chat/completions"

    def _options(self, max_tokens: int) -> dict[str, object]:
        newer = self._spec.config.get("max_completion_tokens")
        return {"max_completion_tokens" if newer else "max_tokens": max_tokens}

    def _text(self, answer: Any) -> str:
        return str(answer["choices"][0]["message"]["content"] or "")
