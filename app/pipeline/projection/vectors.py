"""Vectors and texts on their way into a map: streamed to disk, read back in blocks, never all in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import DimensionMismatchError, InvalidInputError

Float32 = NDArray[np.float32]

# Rows per block are chosen so that a block stays near this size whatever the dimension.
BLOCK_BYTES = 16 * 1024 * 1024


def rows_per_block(dimension: int) -> int:
    """How many float32 rows make one block of about 16 MiB."""
    return max(1, BLOCK_BYTES // (4 * max(1, dimension)))


def write_vectors(batches: Iterable[NDArray[np.floating]], path: Path) -> tuple[int, int]:
    """Append batches of shape (m, d) to one `.npy` file of float32 and return its shape (n, d).

    Holds one batch at a time. The number of rows is written into the header at the end.

    Raises DimensionMismatchError: a batch has another d than the first one.
    Raises InvalidInputError: a batch is not two-dimensional, or a value is NaN or infinite.
    """
    rows, dimension = 0, 0
    with path.open("wb") as file:
        _write_header(file, 0, 0)
        for batch in batches:
            block = _checked(batch, rows, dimension)
            rows += block.shape[0]
            dimension = block.shape[1]
            file.write(block.tobytes())
        file.seek(0)
        _write_header(file, rows, dimension)
    return rows, dimension


def open_vectors(path: Path) -> Float32:
    """The `.npy` file as a read-only memory map of shape (n, d) and dtype float32.

    Raises InvalidInputError: the file is no float32 matrix.
    """
    try:
        header = np.load(path, mmap_mode=None if _is_empty(path) else "r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"vectors: {path.name} cannot be read as a matrix: {error}") from error
    vectors: Float32 = header
    if vectors.ndim != 2 or vectors.dtype != np.float32:  # noqa: PLR2004 - a matrix
        raise InvalidInputError(
            f"vectors: expected a float32 matrix, found {vectors.dtype} with {vectors.ndim} axes"
        )
    return vectors


def blocks(vectors: Float32) -> Iterator[tuple[int, Float32]]:
    """(first row, rows) of consecutive blocks of about 16 MiB."""
    step = rows_per_block(vectors.shape[1])
    for start in range(0, vectors.shape[0], step):
        yield start, vectors[start : start + step]


def write_texts(texts: Iterable[str], path: Path) -> int:
    """Write one JSON string per line (a passage may hold line breaks) and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps(text, ensure_ascii=True))
            file.write("\n")
            count += 1
    return count


def read_texts(path: Path) -> Iterator[str]:
    """The texts of `write_texts`, in their order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _checked(batch: NDArray[np.floating], rows: int, dimension: int) -> Float32:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        block = np.ascontiguousarray(batch, dtype=np.float32)
    if block.ndim != 2:  # noqa: PLR2004 - a matrix
        raise InvalidInputError(f"vectors: a batch must have two axes, this one has {block.ndim}")
    if rows and block.shape[1] != dimension:
        raise DimensionMismatchError(
            f"vectors: row {rows} has {block.shape[1]} values, the rows before it have {dimension}"
        )
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        first = rows + int(np.argmin(finite))
        raise InvalidInputError(f"vectors: row {first} holds a value that is not a finite number")
    return block


def _write_header(file: object, rows: int, dimension: int) -> None:
    # Version 1.0 headers are padded so that any shape up to 20 digits keeps the same length.
    np.lib.format.write_array_header_1_0(
        file,  # type: ignore[arg-type]  # numpy's stub wants its own protocol; a binary file fits
        {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)},
    )


def _is_empty(path: Path) -> bool:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            return False
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return 0 in shape
