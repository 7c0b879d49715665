"""What is forged, stolen, replayed or meant for somebody else lets nobody in, at the door or at the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from sqlalchemy import func, select, update

from app.container import Container
from app.storage.postgres.tables import SessionRow, SignInRow, User
from tests.integration.signin.forging import (
    EVERYWHERE,
    HOUR,
    ID_TOKENS,
    Claims,
    Forge,
    changed,
    now,
    token_endpoint_says,
)
from tests.support.identity import AUDIENCE, CLIENT_ID, CLIENT_SECRET, PUBLIC_URL, IdentityProvider, Person

NewBrowser = Callable[[], Person]


def people(container: Container) -> int:
    with container.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(User)) or 0


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def is_in(person: Person) -> bool:
    return person.get("/api/users/@me").status_code == 200


def userinfo_token(provider: IdentityProvider, person: Person) -> str:
    """An access token of Ada's that the provider takes, as the application itself gets one."""
    url = person.leave()
    back = query_of(provider.answer(url, "ada"))
    form = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": f"{PUBLIC_URL}/auth_callback",
        "code_verifier": _verifier(person, url),
    }
    answer = httpx.post(f"{provider.issuer}/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def _verifier(person: Person, url: str) -> str:
    container: Container = person.client.application.extensions["semantic-explorer"]
    with container.database.transaction() as session:
        return session.scalars(select(SignInRow.code_verifier)).all()[-1]


class Door:
    """Comes back from the provider with an ID token of the test's making."""

    def __init__(self, container: Container, browser: NewBrowser, provider: IdentityProvider) -> None:
        self.container, self.browser, self.provider = container, browser, provider
        self.access_token = userinfo_token(provider, browser())

    def try_with(self, forge: Forge) -> Person:
        person = self.browser()
        asked = query_of(person.leave())
        claims: Claims = {
            "iss": self.provider.issuer,
            "sub": "ada",
            "aud": CLIENT_ID,
            "iat": now(),
            "exp": now() + HOUR,
            "nonce": asked["nonce"],
        }
        back = {"state": asked["state"], "code": "any", "iss": self.provider.issuer}
        token = forge(self.provider, claims)
        with token_endpoint_says(self.container, token, self.access_token):
            person.come_back(f"{PUBLIC_URL}/auth_callback?{urlencode(back)}")
        return person


def test_no_forged_id_token_opens_a_session(
    container: Container, browser: NewBrowser, identity_provider: IdentityProvider
):
    door = Door(container, browser, identity_provider)
    assert is_in(door.try_with(changed())), "not even a good one is taken: what follows would prove nothing"
    taken = [name for name, forge in ID_TOKENS.items() if door.try_with(forge).session_cookie]
    assert taken == []
    with container.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(SessionRow)) == 1


def test_no_forged_access_token_is_taken_by_the_api(
    container: Container, browser: NewBrowser, identity_provider: IdentityProvider
):
    claims: Claims = {
        "iss": identity_provider.issuer,
        "sub": "ada",
        "aud": AUDIENCE,
        "iat": now(),
        "exp": now() + HOUR,
        "client_id": "cli",
    }
    more: dict[str, Forge] = {
        "an ID token": lambda p, c: p.sign({**c, "nonce": "n", "at_hash": "h"}),
        "an ID token called an access token": lambda p, c: p.sign({**c, "nonce": "n"}, {"typ": "at+jwt"}),
        "a token that names the client": changed(aud=CLIENT_ID),
        "a logout token": lambda p, c: p.sign(c, {"typ": "logout+jwt"}),
        "a true token for another audience": lambda p, _: p.access_token("ada", "https://other.example"),
        "a token that says nothing": lambda _, __: "",
        "an API token that nobody made": lambda _, __: "sxp_" + "A" * 43,
        "an API token of no characters": lambda _, __: "sxp_",
    }
    person = browser()

    def status(token: str, scheme: str = "Bearer") -> int:
        answer = person.get("/api/users/@me", headers={"Authorization": f"{scheme} {token}"})
        return answer.status_code

    assert status(identity_provider.sign(claims, {"typ": "at+jwt"})) == 200
    known = people(container)
    forged = {name: forge(identity_provider, claims) for name, forge in (EVERYWHERE | more).items()}
    assert {name: status(token) for name, token in forged.items()} == dict.fromkeys(forged, 401)
    assert status(identity_provider.sign(claims), "Basic") == 401
    assert people(container) == known


def test_a_true_access_token_is_taken(browser: NewBrowser, identity_provider: IdentityProvider):
    token = identity_provider.access_token("bob")
    answer = browser().get("/api/users/@me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text


CALLBACKS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "no state": lambda back: {name: value for name, value in back.items() if name != "state"},
    "a made-up state": lambda back: {**back, "state": "A" * 43},
    "a made-up code": lambda back: {**back, "code": "A" * 43},
    "no code": lambda back: {name: value for name, value in back.items() if name != "code"},
    "another provider's answer": lambda back: {**back, "iss": "https://evil.example"},
    "an answer that names no provider": lambda back: {k: v for k, v in back.items() if k != "iss"},
    "a refusal": lambda back: {"state": back["state"], "iss": back["iss"], "error": "access_denied"},
}


def test_an_answer_that_is_not_the_one_asked_for_is_refused(
    browser: NewBrowser, identity_provider: IdentityProvider
):
    for name, change in CALLBACKS.items():
        person = browser()
        back = query_of(identity_provider.answer(person.leave(), "ada"))
        answer = person.come_back(f"{PUBLIC_URL}/auth_callback?{urlencode(change(back))}")
        assert answer.headers["Location"].startswith("/login?failed=sign_in_refused"), name
        assert person.session_cookie is None, name


def test_an_answer_is_good_once_and_in_its_own_browser_only(
    container: Container, browser: NewBrowser, identity_provider: IdentityProvider
):
    ada, thief = browser(), browser()
    back = identity_provider.answer(ada.leave(), "ada")
    thief.leave()
    thief.come_back(back)
    assert thief.session_cookie is None, "a stolen answer was taken in another browser"
    ada.come_back(back)
    assert is_in(ada)
    ada.client.delete_cookie("__Host-explorer-session", domain="explorer.test")
    ada.come_back(back)
    assert ada.session_cookie is None, "an answer was taken twice"

    late = browser()
    url = late.leave()
    with container.database.transaction() as session:
        session.execute(update(SignInRow).values(expires_at=func.now()))
    late.come_back(identity_provider.answer(url, "ada"))
    assert late.session_cookie is None, "a sign-in was finished too late"


def test_a_code_is_worth_nothing_without_its_verifier(
    container: Container, browser: NewBrowser, identity_provider: IdentityProvider
):
    person = browser()
    url = person.leave()
    with container.database.transaction() as session:
        session.execute(update(SignInRow).values(code_verifier="w" * 43))
    person.come_back(identity_provider.answer(url, "ada"))
    assert person.session_cookie is None


def test_the_provider_must_tell_of_the_one_who_signed_in(
    container: Container,
    browser: NewBrowser,
    identity_provider: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
):
    provider = container.accounts.provider
    true = provider._get

    def swapped(url: str, **what: Any) -> Any:
        return {**true(url, **what), "sub": "root"} if url.endswith("/me") else true(url, **what)

    monkeypatch.setattr(provider, "_get", swapped)
    person = browser()
    person.sign_in("ada")
    assert person.session_cookie is None
