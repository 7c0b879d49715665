"""Markers follow folders; the servers come from tests/support/stack.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import schedule

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
    items.sort(key=lambda item: schedule.rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests among the workers."""
    return schedule.make(config, log)
