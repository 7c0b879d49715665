"""The forward pass of BERT in plain numpy: slow, readable, the measure for the fast graph.

Formulas: Devlin et al. 2019 (BERT), mean pooling after Reimers and Gurevych 2019 (Sentence-BERT).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.pipeline.embedding.minilm.weights import HEADS, LAYERS, Weights

Array = NDArray[np.float32]
# Called with ("qkv" | "intermediate" | "output", layer, rows) for the input of each large product.
Watch = Callable[[str, int, Array], None]

LAYER_NORM_EPSILON = 1e-12


def _ignore(_site: str, _layer: int, _rows: Array) -> None:
    return


def embed_one(weights: Weights, ids: Sequence[int], watch: Watch = _ignore) -> Array:
    """Unit vector, float32 of shape (384,), of one token sequence that includes [CLS] and [SEP]."""
    rows = (
        weights["embeddings.word_embeddings.weight"][list(ids)]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    rows = _layer_norm(weights, rows, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        rows = _layer(weights, rows, layer, watch)
    mean = rows.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def _layer(weights: Weights, rows: Array, layer: int, watch: Watch) -> Array:
    prefix = f"encoder.layer.{layer}."
    watch("qkv", layer, rows)
    attended = _attention(weights, rows, prefix + "attention.self.")
    attended = _linear(weights, attended, prefix + "attention.output.dense")
    rows = _layer_norm(weights, attended + rows, prefix + "attention.output.LayerNorm")
    watch("intermediate", layer, rows)
    inner = _gelu(_linear(weights, rows, prefix + "intermediate.dense"))
    watch("output", layer, inner)
    outer = _linear(weights, inner, prefix + "output.dense")
    return _layer_norm(weights, outer + rows, prefix + "output.LayerNorm")


def _attention(weights: Weights, rows: Array, prefix: str) -> Array:
    count, width = rows.shape
    query, key, value = (
        _linear(weights, rows, prefix + name).reshape(count, HEADS, -1).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(width / HEADS))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray((scores @ value).transpose(1, 0, 2).reshape(count, width))


def _linear(weights: Weights, rows: Array, name: str) -> Array:
    return rows @ weights[name + ".weight"].T + weights[name + ".bias"]


def _layer_norm(weights: Weights, rows: Array, name: str) -> Array:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
    return np.asarray(scaled * weights[name + ".weight"] + weights[name + ".bias"])


def _gelu(rows: Array) -> Array:
    return np.asarray(rows * np.float32(0.5) * (1 + _erf(rows / np.sqrt(np.float32(2)))))


def _erf(rows: Array) -> Array:
    """Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7."""
    size = np.abs(rows)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    return np.asarray(np.sign(rows) * (1 - series * np.exp(-(rows**2))))
