"""From files to a passage, as a person goes: watch, search, map, lasso, read."""

from __future__ import annotations

import math
import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Loaded

QUERY = "start work in another process and wait for its result"


def test_every_file_ends_read_and_the_broken_one_fails_alone_with_its_cause(
    page: Page, loaded: Loaded
) -> None:
    page.goto(loaded.collection)
    page.get_by_role("link", name=re.compile("Failed")).first.click()
    rows = page.locator("table.files tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(loaded.broken)
    expect(rows.locator(".cause")).not_to_be_empty()
    expect(page.get_by_role("button", name="Read again")).to_be_visible()
    page.goto(f"{loaded.collection}?state=read")
    expect(page.locator(".pager")).to_contain_text(f"of {loaded.files - 1}")


def test_trying_again_is_one_click_and_fails_with_the_same_cause(page: Page, loaded: Loaded) -> None:
    page.goto(f"{loaded.collection}?state=failed")
    page.get_by_role("button", name="Read again").click()
    expect(page.locator("#toasts")).to_contain_text("Reading the failed files again")
    expect(page.locator("table.files tbody tr .badge.bad")).to_be_visible(timeout=60_000)


def test_a_file_that_no_extractor_reads_is_refused_with_a_reason(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.collection)
    page.locator("input[type=file]:not([webkitdirectory])").set_input_files(
        {"name": "nothing.txt", "mimeType": "text/plain", "buffer": b""}
    )
    expect(page.locator(".upload-row.refused")).to_contain_text("empty")


def test_search_finds_by_meaning_lights_words_and_leads_to_the_lit_passage(
    page: Page, loaded: Loaded
) -> None:
    assert loaded
    page.goto("/")
    page.keyboard.press("Control+k")
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    first = page.locator(".result").first
    expect(first.locator(".badge").first).to_have_text(re.compile(r"(strong|good|weak) match|related"))
    expect(page.locator(".result mark").first).to_be_visible()
    first.get_by_role("link", name="Read", exact=True).click()
    expect(page.locator("mark.lit").first).to_be_in_viewport()


def test_what_was_searched_is_in_the_address(page: Page, loaded: Loaded) -> None:
    assert loaded
    page.goto(f"/search?q={QUERY}&mode=chunks&lang=en&min=0.3")
    expect(page.get_by_role("radio", name="Passages")).to_be_checked()
    expect(page.locator(".more-filters")).to_have_attribute("open", "")
    page.locator("select[name=limit]").select_option("20")
    expect(page).to_have_url(re.compile("limit=20"))
    expect(page.locator("input[name=q]")).to_have_value(QUERY)


def test_a_lasso_lists_its_passages_and_one_leads_into_its_document(page: Page, loaded: Loaded) -> None:
    _open_map(page, loaded)
    page.get_by_role("button", name="Draw an outline").click()
    _draw_round(page)
    expect(page.locator("[data-part=title]")).to_have_text("Selection")
    expect(page.locator("[data-part=note]")).to_have_text(re.compile(r"\d+ passages? from \d+ documents?"))
    expect(page.locator(".passage").first).to_be_visible()
    expect(page).to_have_url(re.compile("outline="))
    title = page.locator(".passage h3 a").first
    name = title.inner_text()
    title.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator("mark.lit").first).to_be_in_viewport()
    page.go_back()
    expect(page.locator("[data-part=note]")).to_have_text(re.compile("passage"))


def test_a_point_tells_its_text_and_leads_to_its_passage(page: Page, loaded: Loaded) -> None:
    _open_map(page, loaded)
    _go_to_a_point(page)
    expect(page.locator(".tip-text")).not_to_be_empty()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("[data-part=title]")).to_have_text("Passage")
    page.locator(".passage h3 a").click()
    expect(page.locator("mark.lit").first).to_be_in_viewport()
    page.get_by_role("link", name="Show on map").click()
    expect(page.locator("[data-part=title]")).to_have_text("Passage")


def test_a_search_lights_its_hits_on_the_map(page: Page, loaded: Loaded) -> None:
    _open_map(page, loaded)
    page.locator("[data-part=area]").focus()
    page.keyboard.press("/")
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator("[data-part=note]")).to_have_text(re.compile("best passages, best first"))
    expect(page.locator(".passage mark").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=start"))


def _open_map(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.map)
    expect(page.locator("#map[data-ready=yes]")).to_be_attached()
    expect(page.locator(".map-label.shown").first).to_be_visible()


def _draw_round(page: Page) -> None:
    """An outline round most of the map."""
    box = page.locator("[data-part=area]").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    reach = min(box["width"], box["height"]) * 0.42
    page.mouse.move(x + reach, y)
    page.mouse.down()
    for step in range(1, 33):
        turn = step / 32 * math.tau
        page.mouse.move(x + reach * math.cos(turn), y + reach * math.sin(turn))
    page.mouse.up()


def _go_to_a_point(page: Page) -> None:
    """Move over the map until something lies under the pointer."""
    box = page.locator("[data-part=area]").bounding_box()
    assert box
    for row in range(3, 18):
        for column in range(3, 28):
            page.mouse.move(
                box["x"] + box["width"] * column / 30 + row % 3, box["y"] + box["height"] * row / 20
            )
            if page.locator(".map-tip").is_visible():
                return
    raise AssertionError("no point lies under the pointer anywhere")
