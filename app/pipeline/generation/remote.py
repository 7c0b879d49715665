"""What the HTTP language models share: one question, one answer.

A subclass says how a request looks and where the text stands in the answer.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from app.errors import ProviderUnavailableError
from app.pipeline.generation.base import LanguageModelSpec
from app.pipeline.remote import Remote, RetryPolicy
from app.security.outbound import OutboundClient

# Models served without a reasoning parser write their thoughts into the answer; cut off, they never close.
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_RETRY = RetryPolicy(attempts=3)


class RemoteLanguageModel(ABC):
    """Asks through a provider's HTTP interface. Thread-safe."""

    default_base_url = ""
    path = ""  # of the chat endpoint, below the base URL

    def __init__(
        self, spec: LanguageModelSpec, http: OutboundClient, retry: RetryPolicy | None = None
    ) -> None:
        self._spec = spec
        self._remote = Remote(spec.provider, http, spec.api_key, retry or _RETRY)
        base = (spec.base_url or self.default_base_url).rstrip("/")
        self._url = base if base.endswith(self.path) else f"{base}{self.path}"

    def complete(self, system: str, user: str, *, max_tokens: int) -> str:
        """See LanguageModel."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        payload: dict[str, object] = {"model": self._spec.model, "messages": messages, "stream": False}
        payload |= self._options(int(str(self._spec.config.get("max_tokens") or max_tokens)))
        temperature = self._spec.config.get("temperature")
        if temperature is not None:
            payload["temperature"] = temperature
        response = self._remote.post(self._url, payload)
        self._remote.check(response)
        try:
            text = self._text(response.json())
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ProviderUnavailableError(
                f"{self._remote.name} answered something that is not a chat answer ({type(error).__name__})."
            ) from error
        answer = _THOUGHTS.sub("", text).strip()
        if not answer:
            raise ProviderUnavailableError(f"{self._remote.name} answered nothing; raise config.max_tokens.")
        return answer

    @abstractmethod
    def _options(self, max_tokens: int) -> dict[str, object]:
        """What of the body is the provider's own."""

    @abstractmethod
    def _text(self, answer: Any) -> str:
        """The text of an answer. KeyError, TypeError, ValueError, IndexError mean garbage."""
