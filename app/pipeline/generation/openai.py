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

    def _piece(self, event: Any) -> tuple[str, str]:
        choices = event.get("choices") or []  # the last event of some servers holds the usage only
        if not choices:
            return "", ""
        said = (choices[0].get("delta") or {}).get("content")
        return str(said or ""), str(choices[0].get("finish_reason") or "")
