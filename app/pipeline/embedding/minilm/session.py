"""The model ready to run: made once per machine into a cache folder, loaded once per process.

Making it takes about two seconds (read 91 MB, quantize, write 23 MB), loading it afterwards
a tenth of that. Each load proves the graph on this processor against stored reference vectors.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import UnavailableError
from app.pipeline.embedding.minilm.calibration import passages
from app.pipeline.embedding.minilm.graph import INPUT, OUTPUT, Precision, Site, build_graph
from app.pipeline.embedding.minilm.reference import embed_one
from app.pipeline.embedding.minilm.tokens import CLS, SEP, SPECIALS, tokenize
from app.pipeline.embedding.minilm.weights import (
    DIMENSIONS,
    MAX_TOKENS,
    WEIGHTS_SHA256,
    Weights,
    load_weights,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[np.float32]

_LOG = logging.getLogger(__name__)
_FORMAT = 1  # raise it when the graph changes: older files in a cache are then left alone
MIN_COSINE = {"int8": 0.99, "int7": 0.98, "float32": 0.9999}
# 8 bits where the processor multiplies them exactly, 7 where it saturates, float32 where even that fails.
_PREFERENCE: tuple[Precision, ...] = ("int8", "int7", "float32")

_lock = threading.Lock()
_loaded: dict[tuple[int, Path, tuple[Precision, ...]], Model] = {}


class Model:
    """Token ids in, one unit vector out. Safe to call from several threads; runs on the calling thread."""

    def __init__(self, session: InferenceSession, precision: Precision) -> None:
        self._session = session
        self.precision = precision

    def vector(self, ids: Sequence[int]) -> Array:
        """Embed at most 254 token ids (without [CLS] and [SEP]): float32 of shape (384,), unit length.

        One text at a time on purpose: no padding, and a vector never depends on its neighbours in a batch.
        """
        row = np.array([[CLS, *ids, SEP]], dtype=np.int32)
        result: Array = self._session.run([OUTPUT], {INPUT: row})[0][0]
        return result


def load_model(cache_dir: Path, precisions: tuple[Precision, ...] = _PREFERENCE) -> Model:
    """The process-wide model; builds its file in `cache_dir` when missing. Made anew after a fork.

    Takes the first of `precisions` that agrees with the reference on this processor. Raises UnavailableError
    when none does, or the weights are missing or altered.
    """
    key = (os.getpid(), cache_dir.resolve(), precisions)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _first_good(cache_dir.resolve(), precisions)
        return _loaded[key]


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held the parent's lock at the fork
    _lock = threading.Lock()
    _loaded.clear()


def _first_good(cache_dir: Path, precisions: tuple[Precision, ...]) -> Model:
    references = _references(cache_dir)
    for precision in precisions:
        model = Model(_open(cache_dir, precision), precision)
        worst = agreement(model, references)
        if worst >= MIN_COSINE[precision]:
            return model
        _LOG.warning("local embedder: the %s graph agrees only to %.4f here", precision, worst)
    raise UnavailableError("The local embedder computes wrong vectors on this processor; see the log.")


def agreement(model: Model, references: Array) -> float:
    """The lowest cosine between the model's vectors of the calibration passages and `references`."""
    vectors = np.stack([model.vector(ids) for ids in probe_ids()])
    return float((vectors * references).sum(axis=1).min())


def probe_ids() -> list[list[int]]:
    """Token ids of the calibration passages, cut at the model's limit."""
    return [tokenize(text).ids[: MAX_TOKENS - SPECIALS] for text in passages()]


# --- files ------------------------------------------------------------------------------------------


def _file(cache_dir: Path, kind: str) -> Path:
    return cache_dir / f"all-minilm-l6-v2-{WEIGHTS_SHA256[:12]}-{_FORMAT}-{kind}"


def _references(cache_dir: Path) -> Array:
    path = _file(cache_dir, "reference.npy")
    _ensure(path, lambda: _make_files(cache_dir, "int8"))
    return np.asarray(np.load(path), dtype=np.float32)


def _open(cache_dir: Path, precision: Precision) -> InferenceSession:
    path = _file(cache_dir, f"{precision}.onnx")
    _ensure(path, lambda: _make_files(cache_dir, precision))
    try:
        return _session(path)
    except Exception:  # noqa: BLE001 - onnxruntime has no common base; a damaged file is made again, once
        _LOG.warning("the cached model %s cannot be read; making it again", path.name)
        path.unlink(missing_ok=True)
        _ensure(path, lambda: _make_files(cache_dir, precision))
        return _session(path)


def _session(path: Path) -> InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    # One thread inside, several texts side by side: no barrier after every layer, no spinning.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Higher levels would fuse Add + LayerNormalization into the slower SkipLayerNormalization.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _ensure(path: Path, make: Callable[[], None]) -> None:
    """Call `make` unless the file is there; of several processes only one does, the others wait."""
    if path.exists():
        return
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            make()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also by death
        yield


def _make_files(cache_dir: Path, precision: Precision) -> None:
    weights = load_weights()
    vectors, peaks = _measure(weights)
    graph = build_graph(weights, precision, peaks)
    _write(_file(cache_dir, f"{precision}.onnx"), lambda file: file.write(graph))
    _write(_file(cache_dir, "reference.npy"), lambda file: np.save(file, vectors))


def _write(path: Path, save: Callable[[Any], object]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as file:
        save(file)
    partial.replace(path)


def _measure(weights: Weights) -> tuple[Array, dict[Site, Array]]:
    """Reference vectors of the calibration passages, and the peak of every channel at every site."""
    peaks: dict[Site, Array] = {}

    def watch(site: str, layer: int, rows: Array) -> None:
        peak = np.abs(rows).max(axis=0)
        peaks[site, layer] = np.maximum(peaks.get((site, layer), peak), peak)

    vectors = [embed_one(weights, [CLS, *ids, SEP], watch) for ids in probe_ids()]
    return np.stack(vectors).reshape(-1, DIMENSIONS), peaks


os.register_at_fork(after_in_child=_after_fork)
