"""What every embedding provider promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.errors import ConflictError, InvalidInputError
from app.pipeline.embedding.isolation import embed_each
from tests.contract.embedding.conftest import Case

TEXTS = ["a cat sat on the mat", "stock prices fell sharply", "the cat slept on a mat", "x"]


def test_vectors_are_float32_of_unit_length_and_the_promised_dimension(case: Case):
    vectors = case.build().embed(TEXTS, purpose="document").vectors
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, case.spec.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_texts_that_mean_the_same_are_nearer_than_texts_that_do_not(case: Case):
    cat, stocks, other_cat, _ = case.build().embed(TEXTS, purpose="document").vectors
    assert cat @ other_cat > cat @ stocks


def test_order_is_kept_whatever_the_lengths_and_batches(case: Case):
    texts = [" ".join(["word"] * (n % 7 + 1)) + f" number {n}" for n in range(23)]
    together = case.build(batch_size=5).embed(texts, purpose="document").vectors
    alone = np.concatenate([case.build().embed([text], purpose="document").vectors for text in texts])
    assert np.allclose(together, alone, atol=1e-6)


def test_no_texts_give_no_vectors(case: Case):
    assert case.build().embed([], purpose="document").vectors.shape == (0, case.spec.dimensions)


@pytest.mark.parametrize("text", ["", "  \n\t", "\ud800"])
def test_a_text_without_content_is_refused_by_its_number(case: Case, text: str):
    with pytest.raises(InvalidInputError, match="Text 2") as refused:
        case.build().embed(["good", text], purpose="document")
    assert refused.value.field == "texts"


def test_a_long_text_is_split_counted_and_near_to_its_parts(case: Case):
    first, second = "cats and dogs " * 60, "rivers and lakes " * 60
    embedder = case.build(max_input_tokens=128)
    result = embedder.embed([first + second, "short", first, second], purpose="document")
    whole, short, left, right = result.vectors
    assert (result.split, result.truncated) == (3, 0)
    assert min(whole @ left, whole @ right) > whole @ short


def test_a_long_text_is_truncated_and_counted_when_asked(case: Case):
    embedder = case.build(max_input_tokens=64, truncate_strategy="truncate")
    result = embedder.embed(["cats and dogs " * 100, "short"], purpose="document")
    assert (result.split, result.truncated) == (0, 1)
    start_only = embedder.embed(["cats and dogs " * 12], purpose="document")
    assert result.vectors[0] @ start_only.vectors[0] > 0.97


def test_a_long_text_is_refused_when_asked(case: Case):
    embedder = case.build(max_input_tokens=64, truncate_strategy="error")
    with pytest.raises(InvalidInputError, match="max_input_tokens") as refused:
        embedder.embed(["short", "cats and dogs " * 100], purpose="document")
    assert refused.value.field == "truncate_strategy"


def test_texts_that_are_too_long_or_empty_fail_alone_however_many(case: Case):
    embedder = case.build(max_input_tokens=64, truncate_strategy="error")
    found = embed_each(embedder, [*["cats and dogs " * 100] * 20, "", "short", "as short"])
    assert sorted(found.vectors) == [21, 22]
    assert sorted(found.refused) == list(range(21))
    assert "more than the embedder's max_input_tokens" in found.refused[0].message
    assert "empty" in found.refused[20].message
    assert np.allclose(
        found.vectors[21], case.build().embed(["short"], purpose="document").vectors[0], atol=1e-6
    )


def test_a_text_that_fits_is_neither_split_nor_truncated(case: Case):
    result = case.build().embed(TEXTS, purpose="query")
    assert (result.split, result.truncated) == (0, 0)


def test_a_wrong_dimension_is_named_with_both_numbers(case: Case):
    with pytest.raises(ConflictError, match="7") as mismatch:
        case.build(dimensions=7).embed(["text"], purpose="document")
    real = 384 if case.server is None else case.server.dimensions
    assert str(real) in mismatch.value.message


def test_several_threads_share_one_embedder(case: Case):
    embedder = case.build()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: embedder.embed(TEXTS, purpose="document").vectors, range(8)))
    assert all(np.allclose(results[0], other, atol=1e-6) for other in results)


@pytest.mark.parametrize(
    "text", ["🙂" * 300, "ใครๆก็รักแมว" * 60, "漢字" * 400, "a" * 5000, "שלום " * 300, "=" * 3000]
)
def test_any_script_longer_than_the_limit_is_split(case: Case, text: str):
    result = case.build(max_input_tokens=32).embed([text], purpose="document")
    assert result.vectors.shape == (1, case.spec.dimensions)


@pytest.mark.parametrize("text", ["\u200d", "\x07", "\ue000", "."])
def test_a_text_of_odd_characters_still_has_a_vector(case: Case, text: str):
    vector = case.build().embed([text], purpose="document").vectors[0]
    assert np.isfinite(vector).all()
