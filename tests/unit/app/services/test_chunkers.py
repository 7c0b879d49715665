from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from app.errors import ExplorerError, ProviderPausedError, ProviderRefusedError, ProviderUnavailableError
from app.pipeline.embedding.base import Embeddings, Purpose
from app.pipeline.remote import within
from app.services import chunkers
from app.services.chunkers import SentenceVectors


class Embedder:
    """Raises what it is given, in turn, and embeds after that."""

    dimensions = 2

    def __init__(self, *errors: ExplorerError) -> None:
        self.errors = list(errors)
        self.asked = 0

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        assert purpose == "document"
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return Embeddings(np.ones((len(texts), 2), dtype=np.float32))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(chunkers, "pause", found.append)
    return found


def full(seconds: float | None) -> ProviderPausedError:
    return ProviderPausedError("full", retry_after_seconds=seconds)


def paid(embedder: Embedder, patience: float = 600) -> SentenceVectors:
    """One whose first part is embedded; then the errors come."""
    errors, embedder.errors = embedder.errors, []
    vectors = SentenceVectors(embedder, 7, patience)
    vectors(["first"])
    embedder.errors = errors
    return vectors


def test_who_has_paid_waits_for_a_provider_that_is_full(waited: list[float]):
    assert paid(Embedder(full(3), full(0.2), full(15)))(["a", "b"]).shape == (2, 2)
    assert waited == [3, 1, 15]


@pytest.mark.parametrize("error", [full(16), full(None), ProviderUnavailableError("500: broken")])
def test_nobody_waits_for_long_or_for_who_knows_how_long(waited: list[float], error: ExplorerError):
    with pytest.raises(type(error)):
        paid(Embedder(error))(["a"])
    assert waited == []


def test_patience_ends(waited: list[float]):
    vectors = paid(Embedder(*[full(10)] * 9), patience=25)
    with pytest.raises(ProviderPausedError):
        vectors(["a"])
    assert waited == [10, 10]


def test_who_has_paid_nothing_comes_again_later(waited: list[float]):
    with pytest.raises(ProviderPausedError):
        SentenceVectors(Embedder(full(1)), 7, 600)(["a"])
    assert waited == []


def test_a_refusal_names_the_embedder_that_is_to_be_mended():
    with pytest.raises(ProviderRefusedError, match="embedder 7, by which sentences are compared: bad key"):
        SentenceVectors(Embedder(ProviderRefusedError("bad key")), 7, 600)(["a"])


def test_what_is_late_is_not_asked_for():
    embedder = Embedder()
    with within(0), pytest.raises(ProviderUnavailableError, match="in time"):
        SentenceVectors(embedder, 7, 0)(["a"])
    assert embedder.asked == 0
    assert SentenceVectors(embedder, 7, 0)(["a"]).shape == (1, 2)
