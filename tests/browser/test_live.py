"""Pages catch up with what happened while they could not hear it; the event stream is scripted here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route

_CONNECTED = 'retry: 50\n\nevent: connected\ndata: {"resumed_after":null}\n\n'
_RESET = 'event: reset\ndata: {"reason":"the stream was interrupted"}\n\n'
_SOON_MS = 8_000  # the clock alone would take 15 s


def play(page: Page, *answers: str) -> None:
    """Answer the page's connections with these, each of which ends at once; the next one stays silent."""
    script: Iterator[str] = iter(answers)

    def answer(route: Route) -> None:
        body = next(script, None)
        if body is not None:
            route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/api/events", answer)


@pytest.mark.parametrize("answers", [(_CONNECTED, _CONNECTED), (_CONNECTED + _RESET,)], ids=["back", "reset"])
def test_a_page_reads_itself_again_when_its_stream_is_back_or_has_lost_the_thread(
    page: Page, answers: tuple[str, ...]
) -> None:
    play(page, *answers)
    with page.expect_request("**/parts/home", timeout=_SOON_MS):
        page.goto("/")
