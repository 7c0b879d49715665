"""A thousand letters are replayed from the page, at a rate, and its process is killed meanwhile.

Nobody reloads the page: once the process is back, it shows by itself how the bulk job ended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.config import Settings
from app.container import Container, build
from tests.support import bulk_world
from tests.support.browser import opened

_LETTERS, _PER_SECOND = 1000, 200
_PATIENCE_MS = 60_000


@pytest.fixture
def environment(stack_env: dict[str, str], nats_url: str, migrated_url: str) -> dict[str, str]:
    own = {"DATABASE_URL": migrated_url, "NATS_URL": nats_url, "ENCRYPTION_MASTER_KEY": "ab" * 32}
    return {**stack_env, **own}


@pytest.fixture
def container(environment: dict[str, str]) -> Iterator[Container]:
    made = build(Settings.from_env(environment))
    made.apply_topology(dry_run=False)
    yield made
    made.close()
    made.broker.close()


def test_a_thousand_letters_are_replayed_once_each_though_the_panels_process_is_killed(
    chromium: Browser, container: Container, environment: dict[str, str]
) -> None:
    bulk_world.bury_many(container, _LETTERS)
    with (
        bulk_world.chores(container),
        bulk_world.web(environment) as web,
        opened(chromium, web.url) as page,
    ):
        _begin(page)
        bulk_world.eventually("the first of them", lambda: bulk_world.done(container) > _LETTERS / 10)
        web.kill()
        assert bulk_world.done(container) < _LETTERS
        with bulk_world.web(environment, web.port):
            expect(page.locator("#bulk .badge").first).to_have_text("finished", timeout=_PATIENCE_MS)
            expect(page.locator("#bulk .number").first).to_have_text("1,000 of 1,000")
    bulk_world.assert_each_was_replayed_once(container, _LETTERS)


def _begin(page: Page) -> None:
    """All open letters, at the rate, without a trial; then the page follows it."""
    page.goto("/admin/dead-letters/list/")
    page.get_by_role("button", name="Replay all that match…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Letters a second").fill(str(_PER_SECOND))
    dialog.get_by_label("Try so many first").fill("0")
    dialog.get_by_label("Why").fill("the account is paid")
    dialog.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 1,000 letters")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#bulk .badge").first).to_have_text("running")
