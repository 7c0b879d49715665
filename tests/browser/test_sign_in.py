"""Signing in and out with a real browser at a real provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.served import SignedIn

_MAKE_COLLECTION = """async () => (await fetch('/api/collections', {
  method: 'POST', headers: {'content-type': 'application/json'}, body: '{"title": "Notes of Ada"}',
})).status"""


@pytest.fixture
def visitor(chromium: Browser, signed_in: SignedIn) -> Iterator[tuple[Page, list[str]]]:
    """Return a page with no cookies, and what breaks the content policy on it."""
    context = chromium.new_context(base_url=signed_in.url)
    context.set_default_timeout(15_000)
    page, broken = context.new_page(), list[str]()
    page.on("console", lambda said: broken.append(said.text) if "Security Policy" in said.text else None)
    yield page, broken
    context.close()


def test_a_person_signs_in_works_and_signs_out(visitor: tuple[Page, list[str]], signed_in: SignedIn) -> None:
    page, broken = visitor
    page.goto("/search?q=process")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Sign in").click()
    page.locator("input[name=login]").fill("ada")
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{signed_in.url}/search?q=process")

    assert page.evaluate(_MAKE_COLLECTION) == 201
    page.goto("/")
    expect(page.get_by_text("Notes of Ada")).to_be_visible()
    assert page.evaluate("document.cookie") == ""

    page.get_by_label("Signed in as Ada").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page).to_have_url(f"{signed_in.url}/login")
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("Notes of Ada")).to_have_count(0)
    assert broken == []
