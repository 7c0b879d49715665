"""A conversation as a person has it: connect a model, ask, read along, stop, follow a citation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.support.app_processes import RunningApp
from tests.support.talking import TalkFault, TalkingServer, talking_server

TITLE = "Two notes"
FILES = [
    ("valves.txt", b"The valve XK-77 of the main line is set to zero before the pump is started."),
    ("pumps.txt", b"A pump that runs dry for a minute has to be opened and its seal replaced."),
]


@pytest.fixture(scope="module")
def talker() -> Iterator[TalkingServer]:
    with talking_server() as server:
        yield server


@pytest.fixture(scope="module")
def notes(running_app: RunningApp) -> int:
    """An embedded dataset of two documents."""
    pile = running_app.pile(TITLE)
    running_app.upload(pile.ids["collection_id"], FILES)
    embedded = pile.ids["embedded_dataset_id"]
    path = f"/api/embedded-datasets/{embedded}/stats"

    def done() -> bool:
        return bool(running_app.http.get(path).json()["progress"]["done"] == len(FILES))

    running_app.wait_for("two embedded notes", done)
    return embedded


def connect(page: Page, talker: TalkingServer) -> None:
    page.goto("/chat")
    hidden = page.get_by_text("Connect another model")
    if hidden.is_visible():  # other tests of the session connected one
        hidden.click()
    page.get_by_label("Address").fill(talker.openai_url)
    page.get_by_label("Model", exact=True).fill("stub-1")
    page.get_by_role("button", name="Connect and test").click()


def test_a_question_is_answered_with_citations_that_open_the_passage(
    open_page: Open, notes: int, talker: TalkingServer
) -> None:
    talker.say = lambda messages: "Set it to zero [1], and mind <b>the seal</b> [2][7]."
    with open_page() as page:
        connect(page, talker)
        page.get_by_label("About which documents").select_option(str(notes))
        page.get_by_label("Which model answers").select_option(label="stub-1")
        page.get_by_label("Your question").fill("What about valve XK-77 and the seal of the pump?")
        page.keyboard.press("Enter")
        answer = page.locator(".turn.answered[data-message]")
        expect(answer.locator(".words")).to_have_text("Set it to zero 1, and mind <b>the seal</b> 2[7].")
        expect(page).to_have_url(re.compile(r"/chat/\d+$"))
        expect(answer.locator(".sources li")).to_have_count(2)

        talker.faults.append(TalkFault("stall"))
        page.get_by_label("Your question").fill("And then?")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".words").last).to_contain_text("Set it to")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("This answer is not finished")).to_be_visible()
        assert talker.left.wait(30)

        talker.faults.append(TalkFault("complain"))
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("alert")).to_contain_text("the stub fell over")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".turn.answered[data-message] .words")).to_have_count(2)

        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text(
            "What about valve XK-77 and the seal of the pump?"
        )
        answer.first.locator(".words .cite").first.click()
        expect(page.locator("mark.lit").first).to_contain_text("XK-77")
