"""The operators' panel in a real browser: causes, letters, edits, bulk jobs, pauses."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dead
from tests.support.app_processes import RunningApp

_SOON_MS = 60_000
_CAUSE = ".cause:has-text('damaged and cannot be opened as a PDF')"
# The browser's own bar comes after the last field: nothing of the page has the focus then.
_INSIDE = "document.activeElement === document.body || document.activeElement.closest(':modal') !== null"


@pytest.fixture
def panel(page: Page, dead: Dead) -> Page:
    """Return the panel's first page, once the letters have arrived on it by themselves."""
    assert dead
    page.goto("/admin/")
    expect(page.locator(".cause").first).to_be_visible(timeout=_SOON_MS)
    return page


def _open_a_letter(page: Page) -> None:
    page.locator(_CAUSE).get_by_role("link").click()
    ours = page.locator("td.why", has_text=re.compile(r"broken\d+\.pdf"))  # other tests' files died, too
    ours.first.locator("a").click()
    expect(page.get_by_role("heading", name="Payload")).to_be_visible()


def test_an_operator_finds_a_cause_reads_a_letter_edits_and_replays_it(panel: Page, dead: Dead) -> None:
    cause = panel.locator(_CAUSE)
    expect(cause).to_contain_text("UnreadableFileError")
    _open_a_letter(panel)
    expect(panel.locator(".tree")).to_contain_text("extract_file")
    expect(panel.locator("#trace")).to_contain_text("UnreadableFileError")
    expect(panel.get_by_text("Attempt 1")).to_be_visible()

    panel.get_by_role("link", name="Edit and replay").click()
    field = panel.get_by_label("Arguments, as JSON")
    arguments = json.loads(field.input_value())
    field.fill(json.dumps({**arguments, "surprise": 1}))
    panel.get_by_role("button", name="Check and compare").click()
    expect(panel.get_by_role("alert")).to_contain_text("surprise")
    field.fill(json.dumps({**arguments, "file_id": dead.good_file_id}))
    panel.get_by_role("button", name="Check and compare").click()
    expect(panel.locator("del")).to_have_text(str(arguments["file_id"]))
    expect(panel.locator("ins")).to_have_text(str(dead.good_file_id))
    panel.get_by_role("button", name="Replay with these changes").click()

    expect(panel.locator(".page-head .badge").first).to_have_text("replayed")
    panel.locator(".note a.mono").click()  # the new job; its page follows it to its end
    expect(panel.locator("#job .badge").first).to_have_text("succeeded", timeout=_SOON_MS)


def test_a_discard_needs_a_reason_and_can_be_undone(panel: Page) -> None:
    _open_a_letter(panel)
    panel.get_by_role("button", name="Discard…").click()
    dialog = panel.get_by_role("dialog")
    dialog.get_by_role("button", name="Discard").click()
    expect(dialog).to_be_visible()  # the browser asks for the reason
    dialog.get_by_label("Why").fill("test data")
    dialog.get_by_role("button", name="Discard").click()
    expect(panel.locator(".page-head .badge").first).to_have_text("discarded")
    expect(panel.locator(".note", has_text="test data")).to_be_visible()
    panel.get_by_role("button", name="Undo the discard").click()
    expect(panel.locator(".page-head .badge").first).to_have_text("open")


def test_a_letter_is_put_off_and_another_given_to_another_kind_of_job(
    panel: Page, running_app: RunningApp
) -> None:
    _open_a_letter(panel)
    panel.get_by_role("button", name="Replay…").click()
    dialog = panel.get_by_role("dialog")
    dialog.get_by_label("in 15 min").check()
    dialog.get_by_role("button", name="Replay", exact=True).click()
    note = panel.locator(".note", has_text="Its job starts anew, not before")
    note.locator("a.mono").click()
    expect(panel.locator(".timeline")).to_contain_text("Starts then")
    job_id = panel.url.partition("/admin/jobs/")[2]
    running_app.client.post(f"/api/jobs/{job_id}/cancel")  # others wait until no job is active

    panel.goto("/admin/")
    _open_a_letter(panel)
    panel.get_by_role("button", name="Reroute…").click()
    dialog = panel.get_by_role("dialog")
    dialog.get_by_label("To").select_option("plan_collection_transform")
    dialog.get_by_role("button", name="Reroute").click()
    panel.locator(".note", has_text="A new job does the work").locator("a.mono").click()
    expect(panel.locator("#job .badge").first).to_have_text("succeeded", timeout=_SOON_MS)


def test_a_bulk_discard_is_taken_back_as_a_whole(panel: Page) -> None:
    panel.locator(_CAUSE).get_by_role("link").click()
    panel.get_by_role("button", name="Discard all that match…").click()
    dialog = panel.get_by_role("dialog")
    dialog.get_by_label("Why").fill("a mistake")
    dialog.get_by_role("button", name="Preview").click()
    panel.get_by_role("button", name="Start").click()
    expect(panel.locator("#bulk .badge").first).to_have_text("finished", timeout=_SOON_MS)
    panel.get_by_role("button", name="Undo the discards").click()
    expect(panel.get_by_text(re.compile(r"\d+ discards undone by"))).to_be_visible()
    expect(panel.get_by_role("button", name="Undo the discards")).to_have_count(0)


def test_all_letters_of_a_filter_are_replayed_after_a_trial(panel: Page) -> None:
    panel.locator(_CAUSE).get_by_role("link").click()
    panel.get_by_role("button", name="Replay all that match…").click()
    dialog = panel.get_by_role("dialog")
    dialog.get_by_label("Try so many first").fill("3")
    dialog.get_by_label("Letters a second").fill("200")
    dialog.get_by_label("Stop if more fail or die again").fill("")  # nothing was mended: they will
    dialog.get_by_label("Why").fill("the reader was mended")
    dialog.get_by_role("button", name="Preview").click()
    expect(panel.get_by_text("Nothing has been done yet")).to_be_visible()
    expect(panel.locator(".plain-list").first).to_contain_text("damaged and cannot be opened")
    panel.get_by_role("button", name="Start").click()
    state = panel.locator("#bulk .badge").first
    expect(state).to_have_text("paused", timeout=_SOON_MS)
    panel.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("finished", timeout=_SOON_MS)
    expect(panel.locator("#fare .badge.bad")).to_contain_text("died again", timeout=_SOON_MS)


def test_a_pause_counts_down_without_reload_and_ends_by_hand(page: Page, dead: Dead) -> None:
    assert dead
    page.goto("/admin/queues/")
    card = page.locator(".queue-card", has_text="visualization-transforms")
    card.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("15 min").check()
    dialog.get_by_label("Why").fill("the map server is cleaned")
    dialog.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("the map server is cleaned")
    left = card.locator("[data-countdown]")
    expect(left).to_contain_text("14 min")
    before = left.inner_text()
    expect(left).not_to_have_text(before)
    card.get_by_role("button", name="Resume").click()
    expect(card.locator("[data-countdown]")).to_have_count(0)
    expect(card).to_contain_text("1 worker")


def test_numbers_and_workers_are_shown_and_a_job_is_found_by_its_state(page: Page, dead: Dead) -> None:
    assert dead
    page.goto("/admin/queues/")
    expect(page.locator("#board tbody tr")).to_have_count(3)
    page.get_by_role("navigation").get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_label("Kind").select_option("plan_collection_transform")
    page.get_by_label("State").select_option("succeeded")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("flt0_state=succeeded"))
    page.locator("tbody a.mono").first.click()
    expect(page.locator(".timeline")).to_contain_text("Done")


def test_a_dialog_is_used_by_keyboard_alone_and_gives_the_focus_back(page: Page, dead: Dead) -> None:
    assert dead
    page.goto("/admin/queues/")
    opener = page.locator("#open-pause-dataset-transforms")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Pause dataset-transforms")
    expect(dialog.locator(":focus")).to_have_count(1)
    for _ in range(12):  # more than it has fields: none leads behind it
        page.keyboard.press("Tab")
        assert page.evaluate(_INSIDE)
    with page.expect_response("**/admin/parts/queues"):  # the button that opened it is another one then
        page.evaluate("document.body.dispatchEvent(new Event('work'))")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
