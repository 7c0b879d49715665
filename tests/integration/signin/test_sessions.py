"""The life of a session: its cookie, what it is good for, how it ends; and keys for machines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask import Flask
from prometheus_client import REGISTRY
from sqlalchemy import func, select, update

from app.api import sse, who
from app.container import Container
from app.errors import UnavailableError
from app.security import kept
from app.security.tokens import digest
from app.storage.postgres.tables import ApiToken, SessionRow, User
from tests.support.identity import PUBLIC_URL, IdentityProvider, Person

NewBrowser = Callable[[], Person]
ME = "/api/users/@me"


def test_the_cookie_is_held_to_this_host_and_out_of_reach_of_scripts(browser: NewBrowser):
    answer = browser().sign_in("ada", "/search?q=x")
    assert answer.headers["Location"] == "/search?q=x"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    cookies = SimpleCookie("; ".join(answer.headers.getlist("Set-Cookie")))
    assert "__Host-explorer-session" in cookies
    [sent] = [one for one in answer.headers.getlist("Set-Cookie") if "explorer-session" in one]
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(sent.split("; "))
    assert "Domain" not in sent


def test_the_database_knows_digests_only(ada: Person, container: Container):
    token = ada.session_cookie
    assert token
    with container.database.transaction() as session:
        row = session.scalars(select(SessionRow)).one()
    assert row.token_hash == digest(token)
    assert token not in repr(vars(row))
    assert row.id_token_sealed
    assert not row.id_token_sealed.startswith("eyJ")


def test_signing_in_again_ends_the_session_before(ada: Person, container: Container):
    first = ada.session_cookie
    ada.sign_in("ada")
    assert ada.session_cookie != first
    ada.client.set_cookie("__Host-explorer-session", first or "", domain="explorer.test", secure=True)
    assert ada.get(ME).status_code == 401


@pytest.mark.parametrize(
    "column", [SessionRow.expires_at, SessionRow.last_seen_at], ids=["too old", "unused for too long"]
)
def test_a_session_ends_by_itself(ada: Person, container: Container, column: object):
    past = func.now() - timedelta(hours=1)
    with container.database.transaction() as session:
        session.execute(update(SessionRow).values({column: past}))
    assert ada.get(ME).status_code == 401
    page = ada.get("/maps")
    assert (page.status_code, page.headers["Location"]) == (303, "/login?next=/maps")


def test_use_puts_off_the_end_and_a_page_left_open_does_not(ada: Person, container: Container):
    def seen_ago() -> float:
        with container.database.transaction() as session:
            seen = session.scalars(select(SessionRow.last_seen_at)).one()
        return (datetime.now(UTC) - seen).total_seconds()

    with container.database.transaction() as session:
        session.execute(update(SessionRow).values(last_seen_at=func.now() - timedelta(minutes=20)))
    assert ada.get("/parts/home", headers={"HX-Request": "true"}).status_code == 200
    assert seen_ago() > 1000
    assert ada.get(ME).status_code == 200
    assert seen_ago() < 600


def test_sessions_are_listed_and_ended_from_another(browser: NewBrowser):
    here, there, third = browser(), browser(), browser()
    for person in (here, there, third):
        person.sign_in("ada")
    listed = here.get("/api/auth/sessions").json
    assert listed
    assert listed["total"] == 3
    [current] = [one for one in listed["sessions"] if one["is_current"]]
    other = next(one for one in listed["sessions"] if not one["is_current"])
    assert here.send("DELETE", f"/api/auth/sessions/{other['session_id']}").status_code == 204
    assert sorted(one.get(ME).status_code for one in (there, third)) == [200, 401]
    ended = here.send("DELETE", "/api/auth/sessions")
    assert ended.json == {"ended_count": 1}
    assert [one.get(ME).status_code for one in (here, there, third)] == [200, 401, 401]
    assert here.send("DELETE", f"/api/auth/sessions/{current['session_id']}").status_code == 204
    assert here.get(ME).status_code == 401


def test_the_oldest_session_gives_way_to_the_sixth(browser: NewBrowser):
    people = [browser() for _ in range(6)]
    for person in people:
        person.sign_in("ada")
    assert [person.get(ME).status_code for person in people] == [401, 200, 200, 200, 200, 200]


def test_signing_out_ends_the_session_here_and_at_the_provider(ada: Person):
    token = ada.session_cookie
    assert 'method="post" action="/logout"' in ada.get("/logout").text  # a link to it asks, and does nothing
    page = ada.send("POST", "/logout")
    assert page.status_code == 200
    assert ada.session_cookie is None
    url = page.headers["Refresh"].partition("url=")[2]
    asked = parse_qs(urlsplit(url).query)
    assert asked["post_logout_redirect_uri"] == [f"{PUBLIC_URL}/login"]
    assert len(asked["id_token_hint"]) == 1
    assert httpx.get(url).status_code == 200  # the provider knows client, hint and address
    ada.client.set_cookie("__Host-explorer-session", token or "", domain="explorer.test", secure=True)
    assert ada.get(ME).status_code == 401


FROM_HERE: tuple[dict[str, str], ...] = ({"Sec-Fetch-Site": "same-origin"}, {"Origin": PUBLIC_URL})
FROM_ELSEWHERE: tuple[dict[str, str], ...] = (
    {"Accept": "*/*"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://explorer.test"},
    {"Origin": f"{PUBLIC_URL}:8443"},
    {"Origin": f"{PUBLIC_URL}.evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": PUBLIC_URL},
)


def test_a_write_with_a_cookie_must_say_that_it_comes_from_here(ada: Person):
    for headers in FROM_HERE:
        assert ada.send("POST", "/api/collections", {"title": "x"}, **headers).status_code == 201, headers
    for headers in FROM_ELSEWHERE:
        assert ada.send("POST", "/api/collections", {"title": "x"}, **headers).status_code == 403, headers
        assert ada.send("POST", "/logout", **headers).status_code == 403, headers
    assert ada.get(ME).status_code == 200


def test_only_the_host_of_the_public_address_is_answered(ada: Person, app: Flask):
    client = app.test_client()
    assert client.get("/login", base_url="https://evil.example").status_code == 403
    assert client.get("/login", base_url="http://10.0.0.7:8080").status_code == 403
    assert client.get("/health/live", base_url="http://10.0.0.7:8080").status_code == 200
    away = client.get("/login", base_url=PUBLIC_URL, environ_base={"REMOTE_ADDR": "192.168.1.7"})
    assert away.status_code == 200


def test_the_way_back_leads_to_this_server_only(browser: NewBrowser):
    bad = [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\t//evil.example",
        "/a\nb",
        "javascript:1",
        "/logout",
        "",
    ]
    for place in bad:
        assert browser().sign_in("ada", place).headers["Location"] == "/", place


def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(browser: NewBrowser):
    headers = {"HX-Request": "true", "HX-Current-URL": f"{PUBLIC_URL}/collections/3?page=2"}
    answer = browser().get("/parts/home", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/collections/3?page%3D2"


def test_pages_tell_who_is_signed_in_and_how_to_leave(ada: Person, browser: NewBrowser):
    assert "Signed in as operator" in ada.get("/").text
    stranger = browser().get("/login?next=/maps").text
    assert 'href="/login/start?next=/maps"' in stranger
    assert "Sign out" not in stranger
    assert "could not be signed in" in browser().get("/login?failed=sign_in_refused&reference=abc").text


def test_roles_decide_who_may_write(browser: NewBrowser, container: Container):
    viewer, admin = browser(), browser()
    viewer.sign_in("vera")
    admin.sign_in("root")
    assert [(one.get(ME).json or {})["role"] for one in (viewer, admin)] == ["viewer", "admin"]
    assert viewer.send("POST", "/api/collections", {"title": "x"}).status_code == 403
    assert viewer.send("POST", "/collections").status_code == 403
    assert viewer.send("POST", "/api/search", {"query": "x", "embedded_dataset_ids": [1]}).status_code == 404
    assert admin.send("POST", "/api/collections", {"title": "x"}).status_code == 201
    with container.database.transaction() as session:  # a role that the provider takes away is gone
        session.execute(update(User).values(role="admin"))
    viewer.sign_in("vera")
    assert (viewer.get(ME).json or {})["role"] == "viewer"


def test_a_new_key_of_the_provider_is_found_and_the_old_one_forgotten(
    browser: NewBrowser,
    container: Container,
    identity_provider: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(kept, "LEAST_SECONDS_BETWEEN_READS", 0.0)
    old = identity_provider.access_token("ada")
    container.accounts.provider.identify(old)
    identity_provider.rotate("second")
    new = browser()
    new.sign_in("ada")
    assert new.get(ME).status_code == 200
    answer = browser().get(ME, headers={"Authorization": f"Bearer {old}"})
    assert answer.status_code == 401


def test_a_stream_ends_with_the_session_that_opened_it(
    ada: Person, app: Flask, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sse, "_ASK_AGAIN_SECONDS", 0.0)
    cookie = f"__Host-explorer-session={ada.session_cookie}"
    with app.test_request_context("/api/events", base_url=PUBLIC_URL, headers={"Cookie": cookie}):
        stands = who.still_stands()
    lines = sse._while_allowed(iter(["one", "two", "three"]), stands)
    assert next(lines) == "one"
    ada.send("POST", "/logout")
    assert "signed out" in next(lines)
    assert list(lines) == []


class Machine:
    """A client with nothing but a token."""

    def __init__(self, app: Flask, token: str) -> None:
        self.client, self.headers = app.test_client(), {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: object = None) -> int:
        return self.client.open(
            path, base_url=PUBLIC_URL, method=method, json=body, headers=self.headers
        ).status_code


def make_token(person: Person, **fields: object) -> tuple[str, int]:
    answer = person.send("POST", "/api/auth/tokens", {"name": "ci", **fields})
    assert answer.status_code == 201, answer.text
    assert answer.json
    return answer.json["token"], answer.json["api_token"]["api_token_id"]


def test_a_token_works_up_to_its_scope_until_it_is_revoked(ada: Person, app: Flask):
    secret, token_id = make_token(ada, scope="read")
    reader, writer = Machine(app, secret), Machine(app, make_token(ada, scope="write")[0])
    assert reader.ask("GET", "/api/collections") == 200
    assert reader.ask("POST", "/api/collections", {"title": "x"}) == 403
    assert writer.ask("POST", "/api/collections", {"title": "x"}) == 201
    assert "x" in ada.get("/api/collections").text
    assert secret not in ada.get("/api/auth/tokens").text
    assert ada.send("DELETE", f"/api/auth/tokens/{token_id}").status_code == 204
    assert reader.ask("GET", "/api/collections") == 401


def test_a_token_ends_by_itself_and_is_stored_as_a_digest(ada: Person, app: Flask, container: Container):
    secret, _ = make_token(ada, expires_in_days=1)
    machine = Machine(app, secret)
    assert machine.ask("GET", ME) == 200
    with container.database.transaction() as session:
        row = session.scalars(select(ApiToken)).one()
        assert (row.token_hash, row.last_used_at is None) == (digest(secret), False)
        assert secret not in repr(vars(row))
        row.expires_at = row.created_at
    assert machine.ask("GET", ME) == 401


def test_a_token_cannot_make_more_of_itself_nor_outgrow_its_owner(
    ada: Person, app: Flask, container: Container
):
    machine = Machine(app, make_token(ada, scope="write")[0])
    for method, path in (
        ("POST", "/api/auth/tokens"),
        ("GET", "/api/auth/tokens"),
        ("GET", "/api/auth/sessions"),
        ("DELETE", "/api/auth/sessions"),
    ):
        assert machine.ask(method, path, {"name": "more"} if method == "POST" else None) == 403, path
    assert ada.send("POST", "/api/auth/tokens", {"name": "x", "scope": "admin"}).status_code == 400
    for days in (0, 367):
        fields = {"name": "x", "expires_in_days": days}
        assert ada.send("POST", "/api/auth/tokens", fields).status_code == 400
    with container.database.transaction() as session:
        session.execute(update(User).values(role="viewer"))
    assert machine.ask("POST", "/api/collections", {"title": "x"}) == 403


def test_a_token_needs_no_proof_of_where_it_comes_from_and_wins_over_a_cookie(ada: Person, bob: Person):
    secret, _ = make_token(bob, scope="write")
    answer = ada.get(ME, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.json or {})["username"] == "bob"
    assert ada.get(ME, headers={"Authorization": "Bearer sxp_wrong"}).status_code == 401


def test_requests_that_fail_because_no_session_can_be_looked_up_are_counted(
    ada: Person, monkeypatch: pytest.MonkeyPatch
):
    """An outage of Postgres must be seen by the alert on errors, which asks for this number."""

    def fail() -> None:
        raise UnavailableError("Postgres is away")

    labels = {"method": "GET", "path": ME, "status": "503"}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0
    monkeypatch.setattr(who, "find", fail)
    assert ada.get(ME).status_code == 503
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1
