"""Rerankers: POST {base_url}/rerank in Cohere's format, which Jina, vLLM, LiteLLM and others speak, too."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import ProviderUnavailableError
from app.pipeline.remote import GARBAGE, Remote, RetryPolicy
from app.security.outbound import OutboundClient

_RETRY = RetryPolicy(attempts=2, timeout_seconds=30.0)


class Reranker:
    """Orders texts by how well they answer a query. Thread-safe."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None,
        http: OutboundClient,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self._remote = Remote("of reranking", http, api_key, retry)
        self._model = model
        self._url = _endpoint(base_url)

    def rank(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Each text's position and relevance, best first; texts that the answer leaves out are left out.

        Raises ProviderRefusedError, ProviderUnavailableError, InvalidInputError for a closed address.
        """
        payload = {"model": self._model, "query": query, "documents": list(texts), "top_n": len(texts)}
        response = self._remote.post(self._url, payload)
        self._remote.check(response)
        try:
            rows = [(int(row["index"]), float(row["relevance_score"])) for row in response.json()["results"]]
        except GARBAGE as error:
            raise ProviderUnavailableError(
                f"{self._remote.name} answered something that is no ranking ({type(error).__name__})."
            ) from error
        positions = [position for position, _ in rows]
        if len(set(positions)) != len(rows) or not set(positions) <= set(range(len(texts))):
            raise ProviderUnavailableError(f"{self._remote.name} ranked texts that it was not sent.")
        return sorted(rows, key=lambda row: -row[1])


def _endpoint(base_url: str) -> str:
    """A base that ends in a version takes `/rerank`; a bare host is asked for Cohere's second one."""
    base = base_url.rstrip("/")
    if base.endswith("/rerank"):
        return base
    versioned = base.rpartition("/")[2] in {"v1", "v2"}
    return f"{base}/rerank" if versioned else f"{base}/v2/rerank"
