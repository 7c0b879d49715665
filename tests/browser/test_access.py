"""For every hand and eye: keyboard, names for screen readers, small windows, dark and light, no scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Loaded, Open
from tests.support.app_processes import RunningApp
from tests.support.browser import PHONE

PAGES = ("/", "{collection}", "/search?q=process", "/maps", "{map}", "/no-such-page")

_NAMELESS = """() => [...document.querySelectorAll('a[href], button, input, select, [role=application]')]
  .filter((one) => one.checkVisibility() && one.type !== 'hidden')
  .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length
    || one.getAttribute('title')))
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("path", PAGES)
def test_every_control_has_a_name_and_every_page_a_heading_and_a_main_part(
    page: Page, loaded: Loaded, path: str
) -> None:
    page.goto(_filled(path, loaded))
    assert page.evaluate(_NAMELESS) == []
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("main#content")).to_have_count(1)
    expect(page).to_have_title(re.compile(r".+ · Semantic Explorer"))


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(open_page: Open, loaded: Loaded, path: str) -> None:
    with open_page(size=PHONE) as page:
        page.goto(_filled(path, loaded))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_first_tab_leads_past_the_navigation(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.collection)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_the_map_is_explored_by_keyboard_alone(page: Page, loaded: Loaded) -> None:
    page.goto(loaded.map)
    expect(page.locator("#map[data-ready=yes]")).to_be_attached()
    page.locator("[data-part=area]").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("view="))
    page.keyboard.press("0")
    page.locator("button.topic").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("button.topic").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("button.topic").nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-part=live]")).to_have_text(re.compile("passage"))
    expect(page.locator(".passage").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-part=panel]")).to_be_hidden()


def test_the_topics_of_a_phone_come_up_as_a_sheet(open_page: Open, loaded: Loaded) -> None:
    with open_page(size=PHONE) as page:
        page.goto(loaded.map)
        expect(page.locator("#map[data-ready=yes]")).to_be_attached()
        page.get_by_role("button", name="Topics").click()
        page.locator("button.topic").first.click()
        expect(page.locator(".passage").first).to_be_visible()


def test_the_theme_follows_the_system_until_it_is_chosen(open_page: Open, loaded: Loaded) -> None:
    with open_page(theme="dark") as page:
        page.goto(loaded.collection)
        dark = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
        page.get_by_role("button", name="Switch between light and dark").click()
        page.reload()
        assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") != dark


def test_search_and_reading_need_no_scripts(
    chromium: Browser, running_app: RunningApp, loaded: Loaded
) -> None:
    context = chromium.new_context(base_url=running_app.base_url, java_script_enabled=False)
    page = context.new_page()
    page.goto(loaded.collection)
    page.get_by_role("main").get_by_role("link", name="Search").click()
    page.get_by_role("main").get_by_role("searchbox").fill("process")
    page.get_by_role("main").get_by_role("button", name="Search").click()
    page.locator(".result h3 a").first.click()
    expect(page.locator("mark.lit").first).to_be_attached()
    context.close()


def _filled(path: str, loaded: Loaded) -> str:
    return path.format(collection=loaded.collection, map=loaded.map)
