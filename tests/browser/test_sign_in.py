"""Signing in and out with a real browser at a real provider."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

from app.config import Settings
from app.container import build
from app.factory import create_app
from app.jobs.outbox import Outbox
from tests.support.domain import Recorder
from tests.support.identity import IdentityProvider

_MAKE_COLLECTION = """async () => (await fetch('/api/collections', {
  method: 'POST', headers: {'content-type': 'application/json'}, body: '{"title": "Notes of Ada"}',
})).status"""


@pytest.fixture
def address(
    stack_env: dict[str, str],
    migrated_url: str,
    tmp_path: Path,
    recorder: Recorder,
    identity_provider: IdentityProvider,
) -> Iterator[str]:
    """Return where the application with sign-in listens."""
    url = identity_provider.app_url
    own = {"DATABASE_URL": migrated_url, "SCRATCH_DIR": str(tmp_path)}
    container = build(Settings.from_env(stack_env | own | identity_provider.environment(PUBLIC_URL=url)))
    vars(container)["outbox"] = Outbox(recorder)
    served = _ends_bodies(create_app(container))
    server = make_server("127.0.0.1", identity_provider.app_port, served, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url
    server.shutdown()
    server.server_close()
    thread.join(5)
    container.close()


def _ends_bodies(app: Flask) -> Callable[..., Any]:
    """Let reading beyond a body find nothing and not wait, as with gunicorn, which this server is not."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], length)
        return app(environ, start_response)

    return call


@pytest.fixture
def visitor(chromium: Browser, address: str) -> Iterator[tuple[Page, list[str]]]:
    """Return a page with no cookies, and what breaks the content policy on it."""
    context = chromium.new_context(base_url=address)
    context.set_default_timeout(15_000)
    page, broken = context.new_page(), list[str]()
    page.on("console", lambda said: broken.append(said.text) if "Security Policy" in said.text else None)
    yield page, broken
    context.close()


def test_a_person_signs_in_works_and_signs_out(visitor: tuple[Page, list[str]], address: str) -> None:
    page, broken = visitor
    page.goto("/search?q=process")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Sign in").click()
    page.locator("input[name=login]").fill("ada")
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{address}/search?q=process")

    assert page.evaluate(_MAKE_COLLECTION) == 201
    page.goto("/")
    expect(page.get_by_text("Notes of Ada")).to_be_visible()
    assert page.evaluate("document.cookie") == ""

    page.get_by_label("Signed in as Ada").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page).to_have_url(f"{address}/login")
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("Notes of Ada")).to_have_count(0)
    assert broken == []
