"""The points of a map as the browser's map reads them: columns of plain numbers behind a small header."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection import arrow

_HEADER_ALIGNMENT = 4
_PREVIEW_POINTS = 2_000
_PREVIEW_WIDTH, _PREVIEW_HEIGHT, _PREVIEW_MARGIN = 480, 200, 10
# Middle tones of the map's palette, which stand on light and dark paper alike.
_TONES = (
    "#3c8acb", "#e08a2b", "#2ca587", "#d2558d", "#8c6fd6",
    "#b09f2c", "#52b6da", "#b5623c", "#7d954a", "#e2867c",
)  # fmt: skip
_GREY = "#9aa5a6"
_PREVIEW_AXES = (("x", _PREVIEW_WIDTH), ("y", _PREVIEW_HEIGHT))


def packed(arrow_file: bytes) -> bytes:
    """Turn a map's Arrow file into the browser's form, about a third of its size with nothing to decode.

    uint32 length of the header (little endian, a multiple of 4 with its padding); header JSON with
    `count` and `documents`; then x, y (float32), cluster, nearest, document (int32; a dense number per
    document) and point ids (16 bytes each), `count` of each.
    """
    table = arrow.read_points(arrow_file).table
    items = table["item_id"].to_numpy()
    documents, dense = np.unique(items, return_inverse=True)
    header = json.dumps({"count": len(items), "documents": len(documents)}).encode()
    header += b" " * (-len(header) % _HEADER_ALIGNMENT)
    columns = [
        table["x"].to_numpy().astype("<f4"),
        table["y"].to_numpy().astype("<f4"),
        table["cluster"].to_numpy().astype("<i4"),
        table["nearest"].to_numpy().astype("<i4"),
        dense.astype("<i4"),
    ]
    ids = b"".join(table["point_id"].to_pylist())
    return b"".join(
        [len(header).to_bytes(4, "little"), header, *(column.tobytes() for column in columns), ids]
    )


def preview(arrow_file: bytes) -> str:
    """A small picture of a map as SVG: at most 2,000 points, coloured by topic, on no background."""
    table = arrow.read_points(arrow_file).table
    step = max(1, len(table) // _PREVIEW_POINTS)
    x, y = (_fitted(table[name].to_numpy()[::step], size) for name, size in _PREVIEW_AXES)
    topics = table["cluster"].to_numpy()[::step]
    shapes = []
    for tone in range(-1, len(_TONES)):
        chosen = topics < 0 if tone < 0 else (topics >= 0) & (topics % len(_TONES) == tone)
        dots = "".join(f"M{px} {_PREVIEW_HEIGHT - py}h0" for px, py in zip(x[chosen], y[chosen], strict=True))
        colour, strength = (_GREY, 0.35) if tone < 0 else (_TONES[tone], 0.8)
        shapes.append(f'<path d="{dots}" stroke="{colour}" stroke-opacity="{strength}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_PREVIEW_WIDTH} {_PREVIEW_HEIGHT}" '
        f'stroke-width="3" stroke-linecap="round">{"".join(shapes)}</svg>'
    )


def _fitted(values: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Whole pixels between the margins; what lies far out is drawn at the edge, not the rest made tiny."""
    low, high = np.percentile(values, (0.2, 99.8)) if len(values) else (0.0, 1.0)
    share = np.clip((values - low) / max(float(high - low), 1e-9), 0, 1)
    pixels: NDArray[np.int64] = np.rint(_PREVIEW_MARGIN + share * (size - 2 * _PREVIEW_MARGIN)).astype(
        np.int64
    )
    return pixels
