"""Pictures of the four pages for the README, made of the collection that the browser tests uploaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, Loaded, Open

QUERY = "start work in another process and wait for its result"


@pytest.mark.parametrize("name", ["home", "collection", "search", "map"])
def test_each_page_shows_what_it_is_for(
    open_page: Open, loaded: Loaded, name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with open_page() as page:
        _SHOW[name](page, loaded)
        page.wait_for_timeout(700)  # fonts and the last flight of the camera
        folder = (
            ROOT / "docs" / "images" if pytestconfig.getoption("screenshots", default=False) else tmp_path
        )
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 10_000


def _home(page: Page, loaded: Loaded) -> None:
    assert loaded
    page.goto("/")
    expect(page.locator(".map-picture img").first).to_be_visible()


def _collection(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.collection)
    expect(page.locator("table.files")).to_be_visible()


def _search(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.collection)  # other tests' collections may fill the columns of a bare search
    main = page.get_by_role("main")
    main.get_by_role("link", name="Search").click()
    main.get_by_role("searchbox").fill(QUERY.replace("+", " "))
    main.get_by_role("button", name="Search").click()
    expect(page.locator(".result mark").first).to_be_visible()


def _map(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.map)
    expect(page.locator("#map[data-ready=yes]")).to_be_attached()
    expect(page.locator(".map-label.shown").first).to_be_visible()


_SHOW = {"home": _home, "collection": _collection, "search": _search, "map": _map}
