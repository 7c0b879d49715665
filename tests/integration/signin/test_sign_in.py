"""From the button to the provider and back, and what the session that follows is good for."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.identity import Person


def test_a_person_signs_in_and_finds_their_own_things(ada: Person, bob: Person):
    me = ada.get("/api/users/@me").json
    assert me
    assert (me["username"], me["email"], me["role"]) == ("ada", "ada@example.com", "operator")
    made = ada.send("POST", "/api/collections", {"title": "Ada's"})
    assert made.status_code == 201, made.text
    assert "Ada&#39;s" in ada.get("/").text
    listed = bob.get("/api/collections").json
    assert listed
    assert listed["total_count"] == 0


def test_nobody_sees_anything_without_signing_in(browser: Callable[[], Person]):
    stranger = browser()
    answer = stranger.get("/api/collections")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    page = stranger.get("/search?q=a%20b")
    assert page.status_code == 303
    assert page.headers["Location"] == "/login?next=/search?q%3Da%2520b"
