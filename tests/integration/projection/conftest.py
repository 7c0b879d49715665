from __future__ import annotations

from pathlib import Path

import pytest

from app.pipeline.projection.runner import ProjectionRunner

# Compiled loops survive from one test run to the next, as they do between processes of a worker.
_CACHE = Path(__file__).parents[3] / ".data" / "test-numba"


@pytest.fixture(scope="package")
def cache_dir():
    _CACHE.mkdir(parents=True, exist_ok=True)
    return _CACHE


@pytest.fixture(scope="package")
def runner(cache_dir):
    with ProjectionRunner(cache_dir, timeout_seconds=120) as runner:
        runner.warm()
        yield runner
