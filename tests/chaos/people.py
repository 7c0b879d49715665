"""People who sign in at a real identity provider, and what their accounts open: a browser or an API token."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.identity import IdentityProvider, install

ISSUER = "OIDC_ISSUER_URL"
_SEE_OTHER = 303


@dataclass(frozen=True)
class Account:
    """Somebody's way into the product: `headers` and `cookies` say who asks."""

    name: str
    base_url: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]

    def client(self, seconds: float = 40) -> httpx.Client:
        """A client of the API for this account."""
        headers, cookies = dict(self.headers), dict(self.cookies)
        return httpx.Client(base_url=self.base_url, timeout=seconds, headers=headers, cookies=cookies)


class SignInError(Exception):
    """The product did not let somebody in."""


@contextmanager
def identity_provider(app_port: int) -> Iterator[IdentityProvider]:
    """A provider that is not started yet: its address is to be a proxy's."""
    install()
    folder = Path(tempfile.mkdtemp(prefix="chaos-oidc-"))
    provider = IdentityProvider(folder)
    provider.app_port = app_port
    try:
        yield provider
    finally:
        provider.stop()
        shutil.rmtree(folder, ignore_errors=True)


def leave(browser: httpx.Client) -> str:
    """Press the button; where the provider is asked. Raises SignInError, httpx.TransportError."""
    answer = browser.get("/login/start", params={"next": "/"})
    if answer.status_code != _SEE_OTHER:
        raise SignInError(f"/login/start: {answer.status_code}")
    return str(answer.headers["location"])


def sign_in(base_url: str, provider: IdentityProvider, name: str) -> Account:
    """Sign in with a browser. Raises SignInError, httpx.TransportError."""
    with httpx.Client(base_url=base_url, timeout=40) as browser:
        back = urlsplit(provider.answer(leave(browser), name))
        answer = browser.get(f"{back.path}?{back.query}")
        if answer.status_code != _SEE_OTHER:
            raise SignInError(f"/auth_callback: {answer.status_code} {answer.text[-300:]}")
        return Account(name, base_url, _own_page(base_url), dict(browser.cookies))


def with_token(account: Account) -> Account:
    """The same person with an API token instead of a browser. Raises httpx.HTTPError."""
    with account.client() as browser:
        body = {"name": "chaos", "scope": "write", "expires_in_days": 1}
        answer = browser.post("/api/auth/tokens", json=body)
        answer.raise_for_status()
    return Account(account.name, account.base_url, {"Authorization": f"Bearer {answer.json()['token']}"}, {})


def _own_page(base_url: str) -> dict[str, str]:
    """What a browser says of a write that a page of this server makes."""
    return {"Origin": base_url, "Sec-Fetch-Site": "same-origin"}


@dataclass
class Listener:
    """Follows an account's events until it is stopped; `heard` has (type, id) of the transforms told of."""

    account: Account
    heard: set[tuple[str, int]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """In a thread that ends with the process."""
        threading.Thread(target=self._run, name=f"events-{self.account.name}", daemon=True).start()

    def stop(self) -> None:
        """Soon: with the next event."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(1.0):  # a stream that broke is opened again
            with (
                suppress(httpx.HTTPError),
                self.account.client() as http,
                http.stream("GET", "/api/events") as answer,
            ):
                self._read(answer)

    def _read(self, answer: httpx.Response) -> None:
        for line in answer.iter_lines():
            if self._stop.is_set():
                return
            if line.startswith("data:") and "transform_id" in line:
                event = json.loads(line.removeprefix("data:"))
                self.heard.add((event["transform_type"], event["transform_id"]))
