"""The panel as viewer, operator and admin: what each of them sees, and what each of them can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from app.container import Container
from app.storage.postgres.tables import DeadLetterRow
from tests.support.served import SignedIn

_REPLAY = """async (key) => (await fetch(`/admin/dead-letters/${key}/replay`, {method: 'POST'})).status"""
_LISTED = "td.why a"


@contextmanager
def person(chromium: Browser, app: SignedIn, name: str) -> Iterator[Page]:
    """A browser in which somebody has signed in."""
    context = chromium.new_context(base_url=app.url)
    context.set_default_timeout(15_000)
    page, broken = context.new_page(), list[str]()
    page.on("console", lambda said: broken.append(said.text) if "Security Policy" in said.text else None)
    page.goto("/login")
    page.get_by_role("main").get_by_role("link", name="Sign in").click()
    page.locator("input[name=login]").fill(name)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label(f"Signed in as {name.title()}")).to_be_visible()
    yield page
    context.close()
    assert broken == []


def die(container: Container, owner_id: str, number: int) -> int:
    """A letter of somebody's job, as the index has it; the id."""
    now = datetime.now(UTC)
    row = DeadLetterRow(
        stream_life="gone",
        sequence=number,
        owner_id=owner_id,
        actor="extract_file",
        queue="collection-transforms",
        pool="collections",
        reason="permanent-error",
        error_class="app.errors.UnreadableFileError",
        error_message=f"file {number} is damaged",
        cause="file <n> is damaged",
        fingerprint=f"{number:016x}",
        attempts=1,
        worker="w:1",
        size_bytes=1,
        truncated_bytes=0,
        first_seen_at=now,
        died_at=now,
    )
    with container.database.transaction() as session:
        session.add(row)
        session.flush()
        return row.dead_letter_id


def read(container: Container, key: int) -> bool:
    with container.database.transaction() as session:
        return session.get_one(DeadLetterRow, key).read_at is not None


@pytest.fixture
def app(signed_in: SignedIn) -> SignedIn:
    signed_in.container.apply_topology(dry_run=False)
    return signed_in


def owner_of(page: Page) -> str:
    found: str = page.evaluate("async () => (await (await fetch('/api/users/@me')).json()).owner_id")
    return found


def test_a_viewer_looks_an_operator_acts_on_their_own_and_an_admin_on_all(
    chromium: Browser, app: SignedIn
) -> None:
    with person(chromium, app, "vera") as page:
        veras = die(app.container, owner_of(page), 1)
        page.goto("/admin/dead-letters/list/")
        expect(page.locator(_LISTED)).to_have_count(1)
        expect(page.get_by_role("button", name="Replay all that match…")).to_have_count(0)
        page.locator(_LISTED).click()
        expect(page.get_by_text("file 1 is damaged")).to_be_visible()
        expect(page.get_by_role("button", name="Replay…")).to_have_count(0)
        expect(page.get_by_role("button", name="Discard…")).to_have_count(0)
        page.goto("/admin/queues/")
        expect(page.locator(".queue-card")).to_have_count(3)
        expect(page.get_by_role("button", name="Pause…")).to_have_count(0)
        assert page.evaluate(_REPLAY, veras) == 403
        assert not read(app.container, veras)

    with person(chromium, app, "ada") as page:
        adas = die(app.container, owner_of(page), 2)
        page.goto("/admin/dead-letters/list/")
        expect(page.locator(_LISTED)).to_have_count(1)
        with page.expect_response(lambda answer: answer.url.endswith(f"/{adas}/read")):
            page.locator(_LISTED).click()
        assert read(app.container, adas)
        page.get_by_role("button", name="Discard…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Why").fill("a test")
        dialog.get_by_role("button", name="Discard").click()
        expect(page.get_by_role("button", name="Undo the discard")).to_be_visible()
        page.goto("/admin/queues/")
        expect(page.get_by_role("button", name="Pause…")).to_have_count(0)

    with person(chromium, app, "root") as page:
        page.goto("/admin/dead-letters/list/?flt0_state=")
        expect(page.locator(_LISTED)).to_have_count(2)
        page.goto(f"/admin/dead-letters/{veras}")
        expect(page.get_by_role("button", name="Replay…")).to_be_visible()
        page.goto("/admin/queues/")
        expect(page.get_by_role("button", name="Pause…")).to_have_count(3)
