"""The port of the generation stage."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class LanguageModelSpec:
    """Everything needed to call a language model; `api_key` is in the clear and lives only in memory."""

    provider: str  # a name in registry.PROVIDERS
    model: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    config: Mapping[str, object] = field(default_factory=dict)


class LanguageModel(Protocol):
    """Answers a question under an instruction."""

    def complete(self, system: str, user: str, *, max_tokens: int) -> str:
        """The answer, stripped, without a reasoning model's thoughts; never empty.

        `max_tokens` bounds the answer unless the configuration of the model says otherwise. Raises
        ProviderRefusedError, ProviderUnavailableError, InvalidInputError for an address that is not allowed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What bounds an answer; `temperature` None leaves it to the model's configuration and provider."""

    max_tokens: int
    temperature: float | None = None
    timeout_seconds: float = 300.0


class ChatModel(LanguageModel, Protocol):
    """Also goes on with a conversation, as it thinks of the words."""

    def stream(
        self, turns: Sequence[Turn], options: AnswerOptions, *, stopped: threading.Event
    ) -> Generator[str, None, bool]:
        """The answer in pieces, without a reasoning model's thoughts; returns whether it was cut short.

        It is whole when the generator returns, and nothing can be said of it before. Once `stopped` is set
        the call ends within a second. Raises as `complete` does, also between pieces.
        """
        ...
