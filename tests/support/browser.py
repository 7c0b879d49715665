"""Chromium for the browser tests: found or named as missing, and a page that notices what must not happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

from devstack import browser as chromium

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def launch(playwright: Playwright) -> Browser:
    """Start Chromium headless, with WebGL in software; fails with the command that installs it."""
    path = chromium.find()
    if path is None:
        raise AssertionError("no Chromium: run `apt-get install -y chromium`, or set CHROMIUM to its path")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


class Trouble:
    """What a page must never do: ask another host, break the content policy, raise in a script."""

    def __init__(self, base_url: str) -> None:
        self._own = urlsplit(base_url).netloc
        self.found: list[str] = []

    def watch(self, page: Page) -> None:
        """Collect what goes wrong on `page`."""
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.found.append(f"script error: {error}"))
        page.on("console", lambda message: self._console(message.type, message.text))

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.netloc != self._own:
            self.found.append(f"asked another host: {request.url}")

    def _console(self, kind: str, text: str) -> None:
        if kind == "error" and "Content Security Policy" in text:
            self.found.append(text)


@contextmanager
def opened(
    browser: Browser, base_url: str, *, size: dict[str, int] = DESKTOP, theme: str = "light"
) -> Iterator[Page]:
    """A page in a context of its own; at its end, fails if it did what no page may do."""
    context: BrowserContext = browser.new_context(
        base_url=base_url,
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if theme == "dark" else "light",
    )
    context.set_default_timeout(15_000)
    trouble = Trouble(base_url)
    page = context.new_page()
    trouble.watch(page)
    try:
        yield page
    finally:
        context.close()
    assert trouble.found == []
