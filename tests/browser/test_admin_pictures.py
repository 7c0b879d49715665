"""Each page of the operators' panel, wide and light, narrow and dark: named, not too wide, and pictured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, Dead, Open
from tests.browser.test_access import _NAMELESS
from tests.support.app_processes import RunningApp
from tests.support.browser import DESKTOP, PHONE
from tests.support.panel_pictures import ENDINGS, PICTURES, shows

_PAUSED = "dataset-transforms"
_OTHERS = [
    *((f"form{number}.html", b"<html><body><form><input></form></body></html>") for number in range(4)),
    *((f"notes{number}.ipynb", b'{"nbformat": 4, "cells": 7}') for number in range(2)),
    ("log.jsonl", b"{no\n{no\n"),
]
_CAUSES = 4  # and that of the files that every test of the panel has


@pytest.fixture(scope="module")
def causes(running_app: RunningApp, dead: Dead) -> None:
    """Letters of other causes, too."""
    collection = dead.pile.ids["collection_id"]
    running_app.upload(collection, _OTHERS)
    groups = "/api/dead-letters/groups"
    running_app.wait_for("causes", lambda: len(running_app.http.get(groups).json()["items"]) >= _CAUSES)


@pytest.fixture(scope="module")
def bulk_ids(running_app: RunningApp, causes: None) -> Iterator[tuple[int, int]]:
    """A bulk replay that waits after its first letters, and a bulk discard that nobody has begun."""
    assert causes is None
    order = {"act": "replay", "why": "the reader was mended", "filter": {}, "canary": 3, "per_second": 100}
    post, get = running_app.http.post, running_app.http.get
    bulk = post("/api/dead-letters/bulks", json=order).json()["bulk"]
    discard = {"act": "discard", "why": "they were uploaded by mistake", "filter": {}}
    prepared = post("/api/dead-letters/bulks", json=discard).json()["bulk"]
    at = f"/api/dead-letters/bulks/{bulk['bulk_id']}"
    post(f"{at}/start").raise_for_status()
    running_app.wait_for("its first letters", lambda: get(at).json()["bulk"]["state"] == "paused")
    yield bulk["bulk_id"], prepared["bulk_id"]
    for number in (bulk["bulk_id"], prepared["bulk_id"]):
        post(f"/api/dead-letters/bulks/{number}/cancel").raise_for_status()


@contextmanager
def _pause(running_app: RunningApp) -> Iterator[None]:
    """A queue that somebody has paused."""
    at = f"/api/queues/{_PAUSED}"
    pause = {"minutes": 45, "reason": "The embedder's provider is down until about noon"}
    running_app.http.post(f"{at}/pause", json=pause).raise_for_status()
    try:
        yield
    finally:
        running_app.http.post(f"{at}/resume", json={}).raise_for_status()


def _addresses(page: Page, bulk_ids: tuple[int, int]) -> dict[str, str]:
    """Every page of the panel, by the name of its picture."""
    page.goto("/admin/dead-letters/list/?flt0_state=open")
    letter = page.locator("td.why a").first.get_attribute("href") or ""
    page.goto("/admin/jobs/")
    job = page.locator("td a.mono").first.get_attribute("href") or ""
    return {
        "causes": "/admin/dead-letters/",
        "letters": "/admin/dead-letters/list/",
        "letter": letter,
        "edit": f"{letter.rstrip('/')}/edit",
        "bulk-jobs": "/admin/dead-letters/bulks/",
        "bulk-job": f"/admin/dead-letters/bulks/{bulk_ids[0]}",
        "bulk-preview": f"/admin/dead-letters/bulks/{bulk_ids[1]}",
        "queues": "/admin/queues/",
        "jobs": "/admin/jobs/",
        "job": job,
        "runbooks": "/admin/runbooks/",
        "runbook": "/admin/runbooks/SemanticExplorerDeadLetters",
    }


@pytest.fixture
def folder(tmp_path: Path, pytestconfig: pytest.Config) -> Path:
    """Where pictures go."""
    write = pytestconfig.getoption("screenshots", default=False)
    return ROOT / "docs" / "admin" if write else tmp_path


def _look(page: Page, name: str, address: str, picture: Path) -> None:
    page.goto(address)
    _see(page, name, address, picture)


def _see_changes(page: Page, address: str, picture: Path) -> None:
    """What another version of the file would change."""
    page.goto(address)
    typed = page.locator("textarea[name=arguments]")
    arguments = json.loads(typed.input_value())
    typed.fill(json.dumps(arguments | {"file_version": arguments["file_version"] + 1}, indent=2))
    page.locator("button[value=check]").click()
    expect(page.locator("main table")).to_be_visible()
    _see(page, "edit-changes", address, picture)


def _see(page: Page, name: str, address: str, picture: Path) -> None:
    assert shows(name, urlsplit(page.url).path)
    assert page.evaluate(_NAMELESS) == [], address
    expect(page.locator("h1")).to_have_count(1)
    expect(page).to_have_title(re.compile("Operations"))
    width = (page.viewport_size or DESKTOP)["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    for left in page.locator("[data-countdown]").all():
        expect(left).to_have_text(re.compile(r"min \d+ s"))  # it goes by itself
    page.evaluate("document.fonts.ready")
    page.screenshot(path=picture)
    assert picture.stat().st_size > 5_000
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_every_page_is_for_every_hand_and_eye(
    open_page: Open,
    running_app: RunningApp,
    bulk_ids: tuple[int, int],
    folder: Path,
    size: dict[str, int],
    theme: str,
) -> None:
    ending = ENDINGS["phone" if size is PHONE else "desk"]
    with open_page(size=size, theme=theme) as page:
        addresses = _addresses(page, bulk_ids)
        assert addresses.keys() | {"queue-paused", "edit-changes"} == PICTURES.keys()
        for name, address in addresses.items():
            _look(page, name, address, folder / f"{name}{ending}.png")
        _see_changes(page, addresses["edit"], folder / f"edit-changes{ending}.png")
        with _pause(running_app):
            _look(page, "queue-paused", "/admin/queues/", folder / f"queue-paused{ending}.png")
