"""Too many requests are refused, by whoever they are told apart by, and by all replicas together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from flask import Flask
from prometheus_client import REGISTRY
from sqlalchemy import func, insert, select
from werkzeug.test import TestResponse

from app.config import Settings
from app.container import Container, build
from app.errors import InvalidInputError, RateLimitedError
from app.factory import create_app
from app.services.rate_limits import Limit, RateLimits
from app.storage.postgres.session import Database
from app.storage.postgres.tables import RateLimitRow
from tests.support.identity import PUBLIC_URL, IdentityProvider, Person

ME = "/api/users/@me"
LIMITS = ("user", "token", "address", "sign_in", "search", "upload", "stream")


@pytest.fixture
def limited(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Return a maker of applications, each a replica, with these limits and no others."""
    made: list[Container] = []

    def make(**limits: Any) -> Flask:
        none = dict.fromkeys([f"rate_limit_{name}" for name in LIMITS], 0)
        container = build(replace(settings, values=MappingProxyType({**settings.values, **none, **limits})))
        made.append(container)
        return create_app(container)

    yield make
    for container in made:
        container.close()


def statuses(ask: Callable[[], TestResponse], number: int) -> list[int]:
    return [ask().status_code for _ in range(number)]


def test_two_replicas_keep_one_limit(database: Database):
    replicas, limit = [RateLimits(database), RateLimits(database)], Limit("k", 300, "of a test")

    def served(replica: RateLimits) -> int:
        done = 0
        for _ in range(400):
            try:
                replica.count(limit)
            except RateLimitedError:
                break
            done += 1
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(served, replicas * 2))
    leaked = (time.monotonic() - started) * 300 / 60
    assert 300 * 0.9 <= total <= 300 * 1.1 + leaked


def test_a_refusal_names_the_limit_and_when_there_is_room_again(database: Database):
    limit = Limit("user:k", 3, "of a test")
    for _ in range(3):
        RateLimits(database).count(limit)
    with pytest.raises(RateLimitedError, match="more than 3 requests per minute of a test") as refused:
        RateLimits(database).count(limit)
    assert 1 <= (refused.value.retry_after_seconds or 0) <= 20
    counted = REGISTRY.get_sample_value("rate_limit_refusals_total", {"limit": "user"})
    assert counted
    with pytest.raises(RateLimitedError):
        RateLimits(database).count(limit)
    assert REGISTRY.get_sample_value("rate_limit_refusals_total", {"limit": "user"}) == counted + 1


def test_empty_buckets_are_cleared_away(database: Database):
    past, later = (func.now() + timedelta(minutes=minutes) for minutes in (-1, 1))
    with database.transaction() as session:
        for key, moment in (("old", past), ("full", later)):
            session.execute(insert(RateLimitRow).values(key=key, empty_at=moment))
    RateLimits(database, _cleaned=float("-inf")).count(Limit("new", 60, "of a test"))
    with database.transaction() as session:
        assert set(session.scalars(select(RateLimitRow.key))) == {"full", "new"}


def test_who_asks_too_often_is_told_when_to_come_back_and_others_are_served(
    limited: Callable[..., Flask], identity_provider: IdentityProvider
):
    app = limited(rate_limit_user=5)
    ada, bob = (Person(app.test_client(), identity_provider) for _ in range(2))
    ada.sign_in("ada")
    bob.sign_in("bob")
    assert statuses(lambda: ada.get(ME), 7) == [200] * 5 + [429] * 2
    refused = ada.get(ME)
    assert 1 <= int(refused.headers["Retry-After"]) <= 12
    assert (refused.mimetype, (refused.json or {})["code"]) == ("application/problem+json", "rate_limited")
    page = ada.get("/maps")
    assert (page.status_code, page.mimetype) == (429, "text/html")
    assert page.headers["Retry-After"]
    assert bob.get(ME).status_code == 200
    replica = Person(limited(rate_limit_user=5).test_client(), identity_provider)
    replica.client.set_cookie(
        "__Host-explorer-session", ada.session_cookie or "", domain="explorer.test", secure=True
    )
    assert replica.get(ME).status_code == 429


def test_one_token_of_a_user_cannot_use_up_what_the_others_have(
    limited: Callable[..., Flask], identity_provider: IdentityProvider
):
    app = limited(rate_limit_token=3, rate_limit_user=8)
    ada = Person(app.test_client(), identity_provider)
    ada.sign_in("ada")
    made = [ada.send("POST", "/api/auth/tokens", {"name": "t"}).json for _ in range(2)]
    clients = [{"Authorization": f"Bearer {one['token']}"} for one in made if one]
    anyone = app.test_client(use_cookies=False)
    first, second = (
        statuses(lambda headers=headers: anyone.get(ME, base_url=PUBLIC_URL, headers=headers), 4)  # type: ignore[misc]
        for headers in clients
    )
    assert first == [200, 200, 200, 429]
    assert second == [200, 200, 429, 429]  # the user's own limit: two to make them, three and the refused one


def test_what_costs_more_has_a_limit_of_its_own_which_the_refusal_names(
    limited: Callable[..., Flask], identity_provider: IdentityProvider
):
    app = limited(rate_limit_search=2, rate_limit_stream=1, rate_limit_upload=1)
    ada = Person(app.test_client(), identity_provider)
    ada.sign_in("ada")
    asked = {"query": "x", "embedded_dataset_ids": [1]}

    def search() -> TestResponse:
        return ada.send("POST", "/api/search", asked)

    assert 429 not in statuses(search, 2)
    refused = search()
    assert refused.status_code == 429
    assert "more than 2 requests per minute of one user for searching" in (refused.json or {})["message"]
    assert refused.headers["Retry-After"]
    assert ada.get("/search").status_code == 429  # the page searches, too
    items = {"items": [{"title": "t", "chunks": [{"content": "c"}]}]}
    pushes = [ada.send("POST", "/api/datasets/1/items", items) for _ in range(2)]
    assert [one.status_code for one in pushes] == [404, 429]
    assert "for uploads and pushes" in (pushes[1].json or {})["message"]
    streams = [ada.get("/api/events") for _ in range(2)]
    assert [one.status_code for one in streams] == [200, 429]
    streams[0].close()
    assert ada.get(ME).status_code == 200


def test_guessing_is_limited_by_address_before_it_is_known_who_asks(limited: Callable[..., Flask]):
    app = limited(rate_limit_address=4)
    client = app.test_client()

    def guess(address: str = "203.0.113.7", **headers: str) -> TestResponse:
        token = {"Authorization": "Bearer sxp_guess", **headers}
        return client.get(ME, base_url=PUBLIC_URL, headers=token, environ_base={"REMOTE_ADDR": address})

    assert statuses(guess, 6) == [401] * 4 + [429] * 2
    # Nobody gets more by claiming to ask for somebody else, nor by another address of the same network.
    assert guess(**{"X-Forwarded-For": "198.51.100.1"}).status_code == 429
    six = [guess(f"2001:db8:0:1::{number}").status_code for number in range(1, 6)]
    assert six == [401] * 4 + [429]
    assert guess("2001:db8:0:2::1").status_code == 401
    probe = client.get("/health/live", base_url=PUBLIC_URL, environ_base={"REMOTE_ADDR": "203.0.113.7"})
    assert probe.status_code == 200


def test_the_way_in_is_narrower(limited: Callable[..., Flask]):
    client = limited(rate_limit_address=100, rate_limit_sign_in=3).test_client()
    paths = (
        "/auth_callback?state=x&code=y",
        "/login/start",
        "/api/auth/sessions",
        "/auth_callback",
        "/api/token",
        "/login",
    )
    found = [client.get(path, base_url=PUBLIC_URL).status_code for path in paths]
    assert found == [303, 303, 401, 429, 429, 200]
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = client.get("/login/start", base_url=PUBLIC_URL, headers=browser)
    assert (page.status_code, page.mimetype) == (429, "text/html")
    assert page.headers["Retry-After"]
    assert "Too fast" in page.text
    told = client.get("/login/start", base_url=PUBLIC_URL, headers={"Accept": "*/*"})
    assert (told.status_code, told.mimetype) == (429, "application/problem+json")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("198.51.100.1", "198.51.100.1"),
        (
            "10.9.9.9, 198.51.100.1",
            "198.51.100.1",
        ),  # what stood there before the proxy added its own is a claim
        ("198.51.100.1, 10.0.0.5", "198.51.100.1"),  # two proxies of ours
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("garbage", "garbage"),
        ("", "10.0.0.4"),
    ],
)
def test_a_trusted_proxy_says_for_whom_it_asks(
    limited: Callable[..., Flask], identity_provider: IdentityProvider, chain: str, client: str
):
    app = limited(
        trusted_proxies=Settings.from_env(
            {"DATABASE_URL": "postgresql://x", "TRUSTED_PROXIES": "10.0.0.0/29"}
        ).trusted_proxies
    )
    person = Person(app.test_client(), identity_provider)
    person.client.environ_base["REMOTE_ADDR"] = "10.0.0.4"
    person.client.environ_base["HTTP_X_FORWARDED_FOR"] = chain
    person.sign_in("ada")
    listed = person.get("/api/auth/sessions").json
    assert listed
    assert listed["sessions"][0]["ip_address"].removeprefix("::ffff:") == client


def test_a_proxy_that_is_no_address_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="TRUSTED_PROXIES must be IP addresses"):
        Settings.from_env({"DATABASE_URL": "postgresql://x", "TRUSTED_PROXIES": "proxy.example"})
