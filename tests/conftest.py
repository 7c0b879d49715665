"""Markers follow folders; the servers come from tests/support/stack.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.support.stack",
    "tests.support.domain",
    "tests.support.app_processes",
    "tests.support.identity",
]

FUZZ = "fuzz-api"
settings.register_profile(FUZZ, max_examples=50)

_ROOT = Path(__file__).parent
_MARKED_FOLDERS = frozenset({"unit", "contract", "integration", "e2e", "browser", "meta", "bench"})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of the folder it lies in."""
    for item in items:
        folder = item.path.relative_to(_ROOT).parts[0]
        if folder in _MARKED_FOLDERS:
            item.add_marker(folder)
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    parts = item.path.relative_to(_ROOT).parts
    if parts[0] == "browser":
        return 0  # the pages show whatever is there: before other tests fill the shared product
    return 1 if parts[-1] == "test_seed.py" else 2  # five minutes of faults, beside all the others
