"""Programs sign a person in by code or by device, and go on with refresh tokens that are good once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from app.container import Container
from app.security.oidc import _Metadata
from app.storage.postgres.tables import AuditEvent, SessionRow
from tests.support.identity import PUBLIC_URL, IdentityProvider, Person

ME, SESSIONS = "/api/users/@me", "/api/auth/sessions"


class Program:
    """A client without a browser: no cookies, no origin."""

    def __init__(self, app: Flask) -> None:
        self.client: FlaskClient = app.test_client(use_cookies=False)

    def post(self, path: str, **body: Any) -> TestResponse:
        return self.client.post(path, base_url=PUBLIC_URL, json=body)

    def get(self, path: str, token: str = "") -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.get(path, base_url=PUBLIC_URL, headers=headers)

    def by_code(self, provider: IdentityProvider, person: str) -> TestResponse:
        begun = good(self.get("/api/auth/authorize"))
        answer = provider.answer(begun.pop("authorization_url"), person)
        return self.post("/api/token", code=parse_qs(urlsplit(answer).query)["code"][0], **begun)


@pytest.fixture
def program(app: Flask) -> Program:
    return Program(app)


def good(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.json
    return dict(answer.json)


def actions(container: Container) -> list[tuple[str, str]]:
    with container.database.transaction() as session:
        rows = session.scalars(
            select(AuditEvent).where(AuditEvent.action.like("%s_%")).order_by(AuditEvent.id)
        )
        return [(row.action, row.outcome) for row in rows if row.action.startswith(("session.", "sign_in."))]


def test_a_device_is_let_in_by_a_person_elsewhere(program: Program, identity_provider: IdentityProvider):
    begun = good(program.post("/api/auth/device"))
    assert begun["verification_uri"] == f"{identity_provider.issuer}/device"
    assert begun["user_code"] in begun["verification_uri_complete"]
    assert (begun["expires_in"], begun["interval"]) == (600, 5)
    waiting = program.post("/api/auth/device/poll", device_code=begun["device_code"])
    assert (waiting.status_code, (waiting.json or {})["code"]) == (428, "authorization_pending")
    assert waiting.headers["Retry-After"] == "5"
    identity_provider.let_in(begun["verification_uri_complete"], "ada")
    tokens = good(program.post("/api/auth/device/poll", device_code=begun["device_code"]))
    assert tokens["token_type"] == "Bearer"
    assert tokens["id_token"].count(".") == 2
    assert 0 < tokens["expires_in"] <= 900
    assert tokens["user_info"] == {
        "sub": "ada",
        "preferred_username": "ada",
        "email": "ada@example.com",
        "email_verified": None,
        "name": "Ada",
        "picture": None,
    }
    assert good(program.get(ME, tokens["access_token"]))["role"] == "operator"
    again = program.post("/api/auth/device/poll", device_code=begun["device_code"])
    assert (again.status_code, (again.json or {})["code"]) == (410, "gone")


def test_a_device_that_is_not_let_in_hears_so(program: Program, identity_provider: IdentityProvider):
    begun = good(program.post("/api/auth/device"))
    identity_provider.let_in(begun["verification_uri_complete"], "ada", yes=False)
    assert program.post("/api/auth/device/poll", device_code=begun["device_code"]).status_code == 403
    assert program.post("/api/auth/device/poll", device_code="never was").status_code == 410
    missing = program.post("/api/auth/device/poll")
    assert (missing.status_code, (missing.json or {})["field"]) == (400, "device_code")


def test_a_provider_without_devices_or_away_is_said_to_be_so(
    program: Program, container: Container, monkeypatch: pytest.MonkeyPatch
):
    provider = container.accounts.provider
    known = vars_of(provider._metadata.value())
    monkeypatch.setattr(provider._metadata, "value", lambda: _Metadata(**known | {"device_endpoint": None}))
    assert program.post("/api/auth/device").status_code == 501
    closed = {"device_endpoint": "http://127.0.0.1:9/device", "token_endpoint": "http://127.0.0.1:9/token"}
    monkeypatch.setattr(provider._metadata, "value", lambda: _Metadata(**known | closed))
    for path, body in (("device", {}), ("device/poll", {"device_code": "x"})):
        answer = program.post(f"/api/auth/{path}", **body)
        assert answer.status_code == 502, answer.text
        assert "Retry-After" in answer.headers


def vars_of(value: _Metadata) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def test_a_code_is_traded_once_and_only_by_who_began(program: Program, identity_provider: IdentityProvider):
    tokens = good(program.by_code(identity_provider, "ada"))
    assert good(program.get(ME, tokens["access_token"]))["username"] == "ada"
    begun, other = (good(program.get("/api/auth/authorize")) for _ in range(2))
    for wrong in ({"nonce": other["nonce"]}, {"pkce_verifier": other["pkce_verifier"]}):
        code = parse_qs(urlsplit(identity_provider.answer(begun["authorization_url"], "ada")).query)["code"][
            0
        ]
        proofs = {name: begun[name] for name in ("nonce", "pkce_verifier")} | wrong
        answer = program.post("/api/token", code=code, **proofs)
        assert (answer.status_code, (answer.json or {})["code"]) == (401, "sign_in_refused"), wrong
    empty = program.post("/api/token", code="x", nonce="", pkce_verifier="v")
    assert (empty.status_code, (empty.json or {})["field"]) == (400, "nonce")


def test_refreshing_gives_other_tokens_and_ends_those_before(
    program: Program, identity_provider: IdentityProvider, container: Container
):
    first = good(program.by_code(identity_provider, "ada"))
    second = good(program.post("/api/auth/refresh", refresh_token=first["refresh_token"]))
    assert first["refresh_token"] != second["refresh_token"]
    assert second["user_info"] == first["user_info"]
    assert second["id_token"] is None
    assert program.get(ME, first["access_token"]).status_code == 401
    assert good(program.get(ME, second["access_token"]))["username"] == "ada"
    assert actions(container)[-1] == ("session.refreshed", "success")
    with container.database.transaction() as session:
        stored = repr(vars(session.scalars(select(SessionRow)).one()))
    secrets = (second["access_token"], *second["refresh_token"].removeprefix("sxr_").split("."))
    assert not any(secret in stored for secret in secrets)


def test_a_refresh_token_that_comes_twice_ends_the_session_for_thief_and_owner(
    program: Program, identity_provider: IdentityProvider, container: Container
):
    first = good(program.by_code(identity_provider, "ada"))
    second = good(program.post("/api/auth/refresh", refresh_token=first["refresh_token"]))
    reused = program.post("/api/auth/refresh", refresh_token=first["refresh_token"])
    assert (reused.status_code, (reused.json or {})["field"]) == (401, "refresh_token")
    assert program.get(ME, second["access_token"]).status_code == 401
    assert program.post("/api/auth/refresh", refresh_token=second["refresh_token"]).status_code == 401
    told = actions(container)
    assert ("session.refresh_token_reused", "failure") in told
    assert told.count(("session.deleted", "success")) == 1
    for guess in ("sxr_", "sxr_a.b", second["access_token"]):
        assert program.post("/api/auth/refresh", refresh_token=guess).status_code == 401


def test_an_access_token_ends_before_its_session_and_both_end_by_themselves(
    program: Program, identity_provider: IdentityProvider, container: Container
):
    tokens = good(program.by_code(identity_provider, "ada"))
    hour = timedelta(hours=1)
    with container.database.transaction() as session:
        past = {"access_expires_at": func.now() - hour, "last_seen_at": func.now() - hour}
        session.execute(update(SessionRow).values(past))
    assert program.get(ME, tokens["access_token"]).status_code == 401
    tokens = good(program.post("/api/auth/refresh", refresh_token=tokens["refresh_token"]))
    with container.database.transaction() as session:
        session.execute(update(SessionRow).values(expires_at=func.now()))
    assert program.get(ME, tokens["access_token"]).status_code == 401
    assert program.post("/api/auth/refresh", refresh_token=tokens["refresh_token"]).status_code == 401


def test_a_programs_session_is_listed_beside_the_browsers_and_ended_from_there(
    program: Program, ada: Person, identity_provider: IdentityProvider
):
    tokens = [good(program.by_code(identity_provider, "ada")) for _ in range(6)]
    assert [program.get(ME, one["access_token"]).status_code for one in tokens] == [401, *[200] * 5]
    listed = good(ada.get(SESSIONS))["sessions"]
    assert sorted(one["kind"] for one in listed) == ["browser", *["program"] * 5]  # they crowd out no browser
    seen = good(program.get(SESSIONS, tokens[5]["access_token"]))["sessions"]
    [own] = [one["session_id"] for one in seen if one["is_current"]]
    assert ada.send("DELETE", f"{SESSIONS}/{own}").status_code == 204
    assert program.get(ME, tokens[5]["access_token"]).status_code == 401
    ada.client.set_cookie(
        "__Host-explorer-session", tokens[4]["access_token"], domain="explorer.test", secure=True
    )
    assert ada.get(ME).status_code == 401  # it is no cookie
