from __future__ import annotations

import numpy as np
import pytest

from app.errors import DimensionMismatchError, InvalidInputError
from app.pipeline.projection.vectors import open_vectors, read_texts, write_texts, write_vectors


def test_batches_come_back_as_one_float32_matrix(tmp_path):
    batches = [np.full((3, 4), 1.5), np.full((0, 4), 0.0), np.full((2, 4), 2.5, dtype=np.float32)]
    path = tmp_path / "vectors.npy"
    assert write_vectors(iter(batches), path) == (5, 4)
    read = open_vectors(path)
    assert read.dtype == np.float32
    assert read[:, 0].tolist() == [1.5, 1.5, 1.5, 2.5, 2.5]


def test_no_batches_make_an_empty_matrix(tmp_path):
    path = tmp_path / "vectors.npy"
    assert write_vectors([], path) == (0, 0)
    assert open_vectors(path).shape == (0, 0)


def test_a_batch_of_another_dimension_is_refused_with_its_row(tmp_path):
    with pytest.raises(DimensionMismatchError, match="row 2 has 5 values, the rows before it have 4"):
        write_vectors([np.zeros((2, 4)), np.zeros((1, 5))], tmp_path / "vectors.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_refused_with_its_row(tmp_path, value):
    bad = np.zeros((3, 4))
    bad[1, 2] = value
    with pytest.raises(InvalidInputError, match="row 3 holds a value that is not a finite number"):
        write_vectors([np.zeros((2, 4)), bad], tmp_path / "vectors.npy")


def test_a_file_that_is_no_float32_matrix_is_refused(tmp_path):
    path = tmp_path / "vectors.npy"
    path.write_bytes(b"not a matrix")
    with pytest.raises(InvalidInputError, match="cannot be read as a matrix"):
        open_vectors(path)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(InvalidInputError, match="float64"):
        open_vectors(path)


def test_texts_with_line_breaks_and_any_script_come_back_as_they_were(tmp_path):
    texts = ["two\nlines", "", "日本語 \u2028 and a lone \ud800 surrogate", '"quoted" \\ back']
    assert write_texts(iter(texts), tmp_path / "texts.jsonl") == 4
    assert list(read_texts(tmp_path / "texts.jsonl")) == texts
