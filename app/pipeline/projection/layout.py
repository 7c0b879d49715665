"""UMAP from a finished neighbour graph: two layouts of the same fuzzy graph, at once, without compiling.

umap-learn compiles its inner loops in every process unless told to keep them; `load_umap` tells it so, in a
directory of ours, and lets the loops run without the interpreter lock so that two layouts use two cores.
Each layout is sequential, hence repeatable: the same graph and seed give the same picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from app.pipeline.projection.neighbours import NeighbourGraph
from app.pipeline.projection.vectors import Float32

Report = Callable[[float], None]


def load_umap(cache_dir: Path) -> Any:
    """The module `umap.umap_`, its loops cached under `cache_dir` and able to run beside each other.

    The directory is named after the versions involved, because the cache itself only looks at the file
    of each function and not at what that function calls.
    """
    import numba

    numba.config.CACHE_DIR = str(cache_dir / _cache_name())  # type: ignore[attr-defined]  # set at run time
    # Importing the package itself would announce missing plotting extras; the module is all we need.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import layouts, umap_

    layouts._nb_optimize_layout_euclidean_single_epoch.targetoptions["nogil"] = True  # noqa: SLF001
    for function in (
        umap_.smooth_knn_dist,
        umap_.compute_membership_strengths,
        layouts._nb_optimize_layout_euclidean_single_epoch,  # noqa: SLF001
    ):
        function.enable_caching()
    return umap_


def fuzzy_graph(umap: Any, graph: NeighbourGraph, metric: str) -> Any:
    """UMAP's weighted graph (scipy sparse, n x n) from the nearest neighbours."""
    matrix, _, _ = umap.fuzzy_simplicial_set(
        X=graph.indices,  # only its number of rows is read when the neighbours are given
        n_neighbors=graph.indices.shape[1],
        random_state=None,
        metric=metric,
        knn_indices=graph.indices,
        knn_dists=graph.distances,
    )
    # umap-learn reads the edges in stored order; one order, whichever thread comes first.
    matrix.sum_duplicates()
    return matrix


def lay_out(
    umap: Any, matrix: Any, start: Float32, *, min_dist: float, epochs: int, seed: int, report: Report
) -> Float32:
    """Positions (n, c) after `epochs` rounds of UMAP's optimisation from the start positions (n, c)."""
    # The fit's last digits depend on how memory happens to be aligned; six digits make runs agree.
    a, b = (round(float(value), 6) for value in umap.find_ab_params(1.0, min_dist))
    random = np.random.RandomState(seed)
    positions, _ = umap.simplicial_set_embedding(
        data=start,
        graph=matrix.copy(),
        n_components=start.shape[1],
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=epochs,
        init=_spread(start, random),
        random_state=random,
        metric="euclidean",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,
        tqdm_kwds=_progress_options(epochs, report),
    )
    result: Float32 = np.asarray(positions, dtype=np.float32)
    return result


def _spread(start: Float32, random: np.random.RandomState) -> Float32:
    """Start positions of extent 10 with a little noise, so that equal rows can part and no axis is flat."""
    extent = float(np.abs(start).max()) or 1.0
    noise = random.normal(scale=1e-4, size=start.shape)
    flat = np.ptp(start, axis=0) == 0
    noise[:, flat] = random.normal(size=(start.shape[0], int(flat.sum())))
    result: Float32 = (start * (10.0 / extent) + noise).astype(np.float32)
    return result


class _EpochWriter:
    """The file that umap-learn's progress bar believes it writes to."""

    def __init__(self, epochs: int, report: Report) -> None:
        self._epochs = epochs
        self._report = report

    def write(self, text: str) -> int:
        """Read the epoch's number out of a refresh of the bar."""
        digits = text.strip()
        if digits.isdigit():
            self._report(int(digits) / self._epochs)
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


def _progress_options(epochs: int, report: Report) -> dict[str, object]:
    return {
        "disable": False,
        "file": _EpochWriter(epochs, report),
        "bar_format": "{n}",
        "mininterval": 0.5,
        "ascii": True,
    }


def _cache_name() -> str:
    packages = ("numba", "llvmlite", "umap-learn", "pynndescent", "numpy")
    return "-".join(f"{name}{version(name)}" for name in packages)
