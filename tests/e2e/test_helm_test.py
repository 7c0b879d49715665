"""The script that `helm test` runs in the cluster, against the real processes."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from devstack.chart import CHART
from tests.support.app_processes import RunningApp

pytestmark = pytest.mark.e2e


@pytest.fixture
def script(running_app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As a module; the product of the tests has a single user, who needs no token."""
    for name, value in {
        "API_URL": running_app.base_url,
        "PUBLIC_URL": running_app.base_url,
        "TIMEOUT_SECONDS": "90",
    }.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("roundtrip", CHART / "files" / "roundtrip.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def left_behind(app: RunningApp) -> list[Any]:
    kinds = {"collections": "collections", "datasets": "items", "collection-transforms": "items"}
    found = [app.client.get(f"/api/{path}")[key] for path, key in kinds.items()]
    return [one for rows in found for one in rows if one["title"] == "helm test"]


def test_a_file_goes_up_is_extracted_comes_back_and_nothing_of_it_stays(
    running_app: RunningApp, script: ModuleType
):
    script.round_trip()
    assert left_behind(running_app) == []


def test_what_does_not_come_back_ends_the_test_and_nothing_of_it_stays(
    running_app: RunningApp, script: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "DEADLINE", 0)
    with pytest.raises(SystemExit, match="waited in vain for the text of the file"):
        script.round_trip()
    assert left_behind(running_app) == []
