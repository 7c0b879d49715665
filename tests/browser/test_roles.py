"""The panel as viewer, operator and admin, on real letters: what each of them sees, and what each can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from app.container import Container
from app.security.audit import Origin, acting
from app.storage.postgres.tables import AuditEvent, DeadLetterRow
from brokers import inspect
from tests.integration.dead_letters.conftest import FROZEN, Graveyard
from tests.support.domain import World
from tests.support.served import SignedIn

_SECRET = "sk-abcdefgh12345"
_ACT = "async (path) => (await fetch(`/admin/dead-letters/${path}`, {method: 'POST'})).status"
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


def die(container: Container, page: Page) -> int:
    """Let a job of whoever looks at the page die, with a secret in its traceback; the letter's id."""
    path = "async () => (await (await fetch('/api/users/@me')).json()).owner_id"
    owner: str = page.evaluate(path)
    with acting(Origin("a worker")):
        return Graveyard(container, World(container.database, owner)).one(FROZEN).dead_letter_id


def read(container: Container, key: int) -> bool:
    with container.database.transaction() as session:
        return session.get_one(DeadLetterRow, key).read_at is not None


def acts(container: Container) -> list[str]:
    """What is on record of dead letters."""
    told = (
        select(AuditEvent.action).where(AuditEvent.action.startswith("dead_letter")).order_by(AuditEvent.id)
    )
    with container.database.transaction() as session:
        return list(session.scalars(told))


@pytest.fixture
def app(nats_url: str, signed_in: SignedIn) -> SignedIn:
    """The application on a stream without letters."""
    assert nats_url
    signed_in.container.apply_topology(dry_run=False)
    return signed_in


def open_the_only_letter(page: Page) -> None:
    page.goto("/admin/dead-letters/list/")
    expect(page.locator(_LISTED)).to_have_count(1)
    page.locator(_LISTED).click()
    expect(page.locator("#trace")).to_contain_text("ProviderRefusedError")
    expect(page.locator("#trace")).not_to_contain_text(_SECRET)


def in_a_dialog(page: Page, act: str, why: str) -> None:
    page.get_by_role("button", name=f"{act}…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill(why)
    dialog.get_by_role("button", name=act, exact=True).click()


def prepare_for_a_second_person(page: Page) -> None:
    """A bulk discard of all that one may see, which is more than one person may start."""
    page.goto("/admin/dead-letters/list/")
    page.get_by_role("button", name="Discard all that match…").click()
    page.get_by_role("dialog").get_by_label("Why").fill("test data")
    page.get_by_role("dialog").get_by_role("button", name="Preview").click()
    expect(page.get_by_text("another person than")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#toasts")).to_contain_text("is started by another person")
    page.reload()
    expect(page.locator("#bulk .badge").first).to_have_text("prepared")


def start_as_the_second_person(page: Page) -> None:
    page.goto("/admin/dead-letters/bulks/")
    page.locator("tbody th a").click()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#bulk .badge").first).to_have_text("running")
    expect(page.locator("dt", has_text="Started by")).to_be_visible()


def test_a_viewer_looks_an_operator_acts_on_their_own_and_an_admin_on_all(
    chromium: Browser, app: SignedIn
) -> None:
    with person(chromium, app, "vera") as page:
        veras = die(app.container, page)
        open_the_only_letter(page)
        for button in ("Replay…", "Discard…", "Reroute…", "Reveal secrets (on record)"):
            expect(page.get_by_role("button", name=button)).to_have_count(0)
        for act in ("replay", "discard", "reveal", "read"):
            assert page.evaluate(_ACT, f"{veras}/{act}") == 403
        page.goto("/admin/queues/")
        expect(page.locator(".queue-card")).to_have_count(3)
        expect(page.get_by_role("button", name="Pause…")).to_have_count(0)
        assert not read(app.container, veras)

    with person(chromium, app, "ada") as page:
        adas = die(app.container, page)
        with page.expect_response(lambda answer: answer.url.endswith(f"/{adas}/read")):
            open_the_only_letter(page)
        assert read(app.container, adas)
        expect(page.get_by_role("button", name="Reveal secrets (on record)")).to_have_count(0)
        assert page.evaluate(_ACT, f"{adas}/reveal") == 403
        assert page.evaluate(_ACT, f"{veras}/replay") == 404
        in_a_dialog(page, "Discard", "a test")
        page.get_by_role("button", name="Undo the discard").click()
        in_a_dialog(page, "Replay", "the account is paid")
        expect(page.locator(".page-head .badge").first).to_have_text("replayed")
        assert inspect.depths(app.container.broker)[0].ready == 1
        page.goto("/admin/queues/")
        expect(page.get_by_role("button", name="Pause…")).to_have_count(0)
        die(app.container, page), die(app.container, page)
        prepare_for_a_second_person(page)

    with person(chromium, app, "root") as page:
        page.goto("/admin/dead-letters/list/?flt0_state=")
        expect(page.locator(_LISTED)).to_have_count(4)
        page.goto(f"/admin/dead-letters/{veras}")
        expect(page.locator("#trace")).not_to_contain_text(_SECRET)
        page.get_by_role("button", name="Reveal secrets (on record)").click()
        expect(page.locator("#trace")).to_contain_text(_SECRET)
        page.goto(f"/admin/dead-letters/{veras}")
        in_a_dialog(page, "Replay", "hers, too")
        expect(page.locator(".page-head .badge").first).to_have_text("replayed")
        assert inspect.depths(app.container.broker)[0].ready == 2
        page.goto("/admin/queues/")
        expect(page.get_by_role("button", name="Pause…")).to_have_count(3)
        start_as_the_second_person(page)
    assert acts(app.container) == [
        "dead_letter.discarded",
        "dead_letter.restored",
        "dead_letter.replayed",
        "dead_letter_bulk.prepared",
        "dead_letter.revealed",
        "dead_letter.replayed",
        "dead_letter_bulk.started",
    ]
