"""The operator's own inference services: which models they serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.errors import NotOfferedError, ProviderRefusedError
from app.security.outbound import OutboundClient

Kind = Literal["embedding", "llm"]

VARIABLES: Mapping[Kind, str] = {
    "embedding": "EMBEDDING_INFERENCE_API_URL",
    "llm": "LLM_INFERENCE_API_URL",
}
_PATHS: Mapping[Kind, str] = {"embedding": "/api/embedders", "llm": "/api/llms"}
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Inference:
    """Verbs on the services; `urls` are their bases, missing where the operator has none."""

    http: OutboundClient
    urls: Mapping[Kind, str | None]

    def models(self, kind: Kind) -> list[Any] | dict[str, Any]:
        """The service's own list, as it gives it.

        Raises NotOfferedError, ProviderUnavailableError, ProviderRefusedError.
        """
        base = self.urls[kind]
        if not base:
            raise NotOfferedError(f"there is no such service here: {VARIABLES[kind]} is not set")
        answer = self.http.request("GET", base.rstrip("/") + _PATHS[kind], timeout_seconds=_SECONDS)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.status != 200 or not isinstance(found, list | dict):  # noqa: PLR2004 - OK
            raise ProviderRefusedError(f"the {kind} inference service gave no list ({answer.status})")
        return found
