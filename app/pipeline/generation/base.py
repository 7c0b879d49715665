"""The port of the generation stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


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
