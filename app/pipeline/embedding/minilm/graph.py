"""The ONNX graph of the model: float32, or int8 weights with activations quantized as they pass.

Every linear layer becomes one DynamicQuantizeMatMul (int8 weights with a scale per column, uint8 activations
with a scale per text). Before quantizing, large activation channels are moved into the weights (SmoothQuant,
Xiao et al. 2022), which takes two thirds of the error away. Layer norms stay unfused: in onnxruntime
1.32 Add + LayerNormalization is five times faster on a CPU than SkipLayerNormalization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.pipeline.embedding.minilm.reference import LAYER_NORM_EPSILON
from app.pipeline.embedding.minilm.weights import HEADS, LAYERS, Weights

Array = NDArray[np.float32]
Site = tuple[str, int]  # as reference.Watch names the inputs of the large products
# int7 is for processors whose 8-bit products saturate at 16 bits (x86 before VNNI).
Precision = Literal["int8", "int7", "float32"]

INPUT, OUTPUT = "ids", "vector"
_CONTRIB = "com.microsoft"
_SMOOTHING = 0.65  # of 0.4 to 1.0 the one with the smallest worst error over many kinds of text
_STEPS = {"int8": 127, "int7": 63}


def build_graph(weights: Weights, precision: Precision, peaks: Mapping[Site, Array] | None = None) -> bytes:
    """A serialized model: `ids` int32 (1, tokens) → `vector` float32 (1, 384), unit length.

    `peaks` holds the largest magnitude per channel seen at each site; without it nothing is smoothed.
    """
    return _Builder(weights, precision, peaks or {}).model()


@dataclass(frozen=True, slots=True)
class _Rows:
    """One activation, twice: as the next product reads it (`smooth`) and as the residual needs it."""

    smooth: str
    plain: str


class _Builder:
    """Collects nodes and initializers; names follow the checkpoint's."""

    def __init__(self, weights: Weights, precision: Precision, peaks: Mapping[Site, Array]) -> None:
        self._weights = weights
        self._precision = precision
        self._peaks = peaks if precision != "float32" else {}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self) -> bytes:
        from onnx import TensorProto, helper

        rows = self._embeddings()
        for layer in range(LAYERS):
            rows = self._layer(rows, layer)
        mean = self._add("ReduceMean", [rows.plain, self._const("axis", np.array([1]))], "mean", keepdims=0)
        self._add("LpNormalization", [mean], OUTPUT, axis=1, p=2)
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info(INPUT, TensorProto.INT32, [1, "tokens"])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, "dimensions"])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(model.SerializeToString())

    # --- parts of the model -------------------------------------------------------------------------

    def _embeddings(self) -> _Rows:
        words = self._word_rows()
        positions = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        zero = self._const("zero", np.array([0]))
        count = self._add("Shape", [INPUT], "tokens", start=1, end=2)
        used = self._add("Slice", [self._const("positions", positions), zero, count, zero], "used_positions")
        total = self._add("Add", [words, used], "embeddings")
        return self._layer_norm(total, "embeddings.LayerNorm", self._smoothing(("qkv", 0), self._qkv(0)[0]))

    def _word_rows(self) -> str:
        table = self._weights["embeddings.word_embeddings.weight"]
        if self._precision == "float32":
            return self._add("Gather", [self._const("words", table), INPUT], "word_rows")
        quantized, scales = _quantize(table.T, _STEPS["int8"])  # never multiplied, so always 8 bits
        rows = self._add("Gather", [self._const("words", quantized.T), INPUT], "word_rows_int8")
        scale = self._add("Gather", [self._const("word_scales", scales[:, None]), INPUT], "word_rows_scale")
        return self._add("Mul", [self._float(rows), scale], "word_rows")

    def _layer(self, rows: _Rows, layer: int) -> _Rows:
        prefix = f"encoder.layer.{layer}."
        attended = self._linear(self._attention(rows, layer), prefix + "attention.output.dense")
        total = self._add("Add", [attended, rows.plain], f"{prefix}attention.sum")
        inner_weights = self._weights[prefix + "intermediate.dense.weight"].T
        inner_smoothing = self._smoothing(("intermediate", layer), inner_weights)
        rows = self._layer_norm(total, prefix + "attention.output.LayerNorm", inner_smoothing)
        inner = self._linear(rows.smooth, prefix + "intermediate.dense", inner_smoothing)
        outer = self._feed_out(self._add("Gelu", [inner], f"{prefix}gelu"), layer)
        total = self._add("Add", [outer, rows.plain], f"{prefix}output.sum")
        following = (
            self._smoothing(("qkv", layer + 1), self._qkv(layer + 1)[0]) if layer + 1 < LAYERS else None
        )
        return self._layer_norm(total, prefix + "output.LayerNorm", following)

    def _attention(self, rows: _Rows, layer: int) -> str:
        name = f"encoder.layer.{layer}.attention"
        weight, bias = self._qkv(layer)
        smoothing = self._smoothing(("qkv", layer), weight)
        joined = self._product(
            rows.smooth, weight if smoothing is None else weight * smoothing[:, None], bias, name
        )
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        self._node("Split", [joined], parts, axis=-1, num_outputs=3)
        return self._add("MultiHeadAttention", parts, f"{name}.heads", _CONTRIB, num_heads=HEADS)

    def _feed_out(self, inner: str, layer: int) -> str:
        name = f"encoder.layer.{layer}.output.dense"
        smoothing = self._smoothing(("output", layer), self._weights[name + ".weight"].T)
        if smoothing is not None:
            inner = self._add(
                "Mul", [inner, self._const(f"{name}.smoothing", 1 / smoothing)], f"{name}.smoothed"
            )
        return self._linear(inner, name, smoothing)

    def _qkv(self, layer: int) -> tuple[Array, Array]:
        prefix = f"encoder.layer.{layer}.attention.self."
        parts = ("query", "key", "value")
        weight = np.concatenate([self._weights[f"{prefix}{part}.weight"].T for part in parts], axis=1)
        return weight, np.concatenate([self._weights[f"{prefix}{part}.bias"] for part in parts])

    # --- parts of a layer ---------------------------------------------------------------------------

    def _smoothing(self, site: Site, weight: Array) -> Array | None:
        """Factor per input channel that the weights take over from the activations, or None."""
        if site not in self._peaks:
            return None
        peak = np.maximum(self._peaks[site], 1e-4)
        heaviest = np.maximum(np.abs(weight).max(axis=1), 1e-4)
        factor = peak**_SMOOTHING / heaviest ** (1 - _SMOOTHING)
        return np.asarray(factor / np.exp(np.log(factor).mean()), dtype=np.float32)

    def _layer_norm(self, rows: str, name: str, smoothing: Array | None) -> _Rows:
        gain, bias = self._weights[name + ".weight"], self._weights[name + ".bias"]
        if smoothing is not None:
            gain, bias = gain / smoothing, bias / smoothing
        inputs = [rows, self._const(name + ".weight", gain), self._const(name + ".bias", bias)]
        normed = self._add("LayerNormalization", inputs, name, epsilon=LAYER_NORM_EPSILON, axis=-1)
        if smoothing is None:
            return _Rows(normed, normed)
        plain = self._add("Mul", [normed, self._const(name + ".smoothing", smoothing)], name + ".plain")
        return _Rows(normed, plain)

    def _linear(self, rows: str, name: str, smoothing: Array | None = None) -> str:
        weight = self._weights[name + ".weight"].T
        if smoothing is not None:
            weight = weight * smoothing[:, None]
        return self._product(rows, weight, self._weights[name + ".bias"], name)

    def _product(self, rows: str, weight: Array, bias: Array, name: str) -> str:
        bias_name = self._const(name + ".bias", bias)
        if self._precision == "float32":
            product = self._add("MatMul", [rows, self._const(name + ".weight", weight)], name + ".product")
            return self._add("Add", [product, bias_name], name)
        quantized, scales = _quantize(weight, _STEPS[self._precision])
        inputs = [
            rows,
            self._const(name + ".weight", quantized),
            self._const(name + ".scale", scales),
            self._const(name + ".zero", np.zeros(len(scales), dtype=np.int8)),
            bias_name,
        ]
        return self._add("DynamicQuantizeMatMul", inputs, name, _CONTRIB)

    # --- ONNX ---------------------------------------------------------------------------------------

    def _float(self, rows: str) -> str:
        from onnx import TensorProto

        return self._add("Cast", [rows], rows + ".float", to=TensorProto.FLOAT)

    def _const(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"const.{name}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self._node(kind, inputs, [output], domain, **attributes)
        return output

    def _node(
        self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> None:
        from onnx import helper

        self._nodes.append(
            helper.make_node(kind, inputs, outputs, domain=domain, name=outputs[0], **attributes)
        )


def _quantize(weight: Array, steps: int) -> tuple[NDArray[np.int8], Array]:
    """Symmetric, one scale per column: weight ≈ int8 * scale."""
    scales = np.abs(weight).max(axis=0) / steps
    scales[scales == 0] = 1
    quantized = np.clip(np.rint(weight / scales), -steps, steps).astype(np.int8)
    return quantized, np.asarray(scales, dtype=np.float32)
