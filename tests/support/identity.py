"""A real OpenID provider process for tests, and browsers and API clients that sign in there."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.test import TestResponse

from devstack import node
from devstack.process import Command, Process
from tests.support.app_processes import free_port

FOLDER = Path(__file__).with_name("oidc")
PUBLIC_URL = "https://explorer.test"
AUDIENCE = "https://explorer.test/api"
CLIENT_ID, CLIENT_SECRET = "explorer", "the secret of tests"
GROUPS = {"ada": ["staff", "operator"], "bob": ["operator"], "vera": ["viewer"], "root": ["admin", "viewer"]}
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_VERIFIER = "v" * 43
_CLI = "https://cli.test/back"


class IdentityProvider:
    """The process. `key` signs its tokens, so a test can forge with the true one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.app_port = free_port(), free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
        self._process: Process | None = None

    @property
    def app_url(self) -> str:
        """Where an application may listen for real browsers."""
        return f"http://localhost:{self.app_port}"

    def environment(self, **more: str) -> dict[str, str]:
        """The settings of an application that signs people in here."""
        return {
            "OIDC_ISSUER_URL": self.issuer,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_ROLE_CLAIM": "groups",
            "OIDC_DEFAULT_ROLE": "viewer",
            "PUBLIC_URL": PUBLIC_URL,
            **more,
        }

    def start(self) -> None:
        own = shutil.which("node") if node._own_npm() else None
        command = [own or str(node._wheel() / "bin" / "node"), str(FOLDER / "server.mjs")]
        environment = {"OIDC_TEST_CONFIG": json.dumps(self._config()), "NODE_NO_WARNINGS": "1"}
        self._process = Process(Command(command, environment), self._folder / "oidc.log")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.alive():
            try:
                httpx.get(f"{self.issuer}/.well-known/openid-configuration", timeout=5)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"the OpenID provider did not start:\n{self._process.log_tail()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.end(signal.SIGTERM, 2)

    def rotate(self, kid: str) -> None:
        """Go on with another key, and without the one before."""
        self.key = RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})
        self.stop()
        self.start()

    def sign(
        self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None, key: Any = None
    ) -> str:
        """A token as the provider would sign it, unless told otherwise."""
        full = {"alg": "RS256", "kid": self.key.kid, **(header or {})}
        kept = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(kept, dict(claims), key or self.key, algorithms=[str(kept["alg"])])

    def answer(self, url: str, person: str) -> str:
        """What the provider sends a browser back to, once `person` has typed their name."""
        with httpx.Client() as browser:
            at = browser.get(url)
            for _ in range(6):  # to the form, back, and on
                if at.status_code == 200:
                    at = browser.post(at.url, data={"login": person})
                assert at.is_redirect, at.text
                if not at.headers["location"].startswith(("/", self.issuer)):
                    return str(at.headers["location"])
                at = browser.get(urljoin(self.issuer, at.headers["location"]))
        raise AssertionError(f"the provider goes round in circles: {at.url}")

    def let_in(self, url: str, person: str, *, yes: bool = True) -> None:
        """What a person does at the address that a device shows: type nothing, say yes or no, sign in."""
        with httpx.Client(follow_redirects=True) as browser:
            at = browser.get(url)
            at = browser.post(f"{self.issuer}/device", data=_hidden(at.text))
            at = browser.post(
                f"{self.issuer}/device", data=_hidden(at.text) | {"confirm" if yes else "abort": "yes"}
            )
            if yes:
                at = browser.post(at.url, data={"login": person})
            assert at.status_code == 200, at.text

    def access_token(self, person: str, audience: str = AUDIENCE) -> str:
        """An access token for an API client of `person`."""
        query = httpx.QueryParams(
            client_id="cli",
            response_type="code",
            scope="openid api",
            redirect_uri=_CLI,
            resource=audience,
            code_challenge=create_s256_code_challenge(_VERIFIER),
            code_challenge_method="S256",
        )
        code = parse_qs(urlsplit(self.answer(f"{self.issuer}/auth?{query}", person)).query)["code"][0]
        answer = httpx.post(
            f"{self.issuer}/token",
            data={
                "client_id": "cli",
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": _CLI,
                "code_verifier": _VERIFIER,
                "resource": audience,
            },
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def _config(self) -> dict[str, Any]:
        back = [f"{url}/auth_callback" for url in (PUBLIC_URL, self.app_url)]
        return {
            "issuer": self.issuer,
            "port": self.port,
            "groups": GROUPS,
            "jwks": {"keys": [self.key.as_dict(private=True)]},
            "clients": [
                {
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "redirect_uris": back,
                    "post_logout_redirect_uris": [f"{url}/login" for url in (PUBLIC_URL, self.app_url)],
                    "grant_types": ["authorization_code", DEVICE_GRANT],
                },
                {
                    "client_id": "cli",
                    "token_endpoint_auth_method": "none",
                    "redirect_uris": [_CLI],
                },
            ],
        }


def _hidden(page: str) -> dict[str, str]:
    """The fields of the page's form that nobody types."""
    return dict(re.findall(r'name="(\w+)" value="([^"]+)"', page))


class Person:
    """A browser of the application's, through Flask's test client, at the address of PUBLIC_URL."""

    def __init__(self, client: FlaskClient, provider: IdentityProvider) -> None:
        self.client = client
        self.provider = provider

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, base_url=PUBLIC_URL, **more)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """A write as a browser sends it from a page of this server."""
        sent = headers or {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}
        named = {name.replace("_", "-"): value for name, value in sent.items()}
        return self.client.open(path, base_url=PUBLIC_URL, method=method, json=body, headers=named)

    def leave(self, next_path: str = "/") -> str:
        """Press the button; returns where the provider is asked."""
        answer = self.get("/login/start", query_string={"next": next_path})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["Location"])

    def come_back(self, url: str) -> TestResponse:
        """Follow the provider's redirect."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == PUBLIC_URL
        return self.get(f"{parts.path}?{parts.query}")

    def sign_in(self, name: str, next_path: str = "/") -> TestResponse:
        return self.come_back(self.provider.answer(self.leave(next_path), name))

    @property
    def session_cookie(self) -> str | None:
        cookie = self.client.get_cookie("__Host-explorer-session", domain="explorer.test")
        return cookie.value if cookie else None


def install() -> None:
    """Install the provider's packages once for all test processes, by its lock file."""
    with (FOLDER / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = lock.read()
        stamp = FOLDER / "node_modules" / ".installed"
        if not stamp.exists() or stamp.read_bytes() != wanted:
            command = [sys.executable, "-m", "devstack.node", str(FOLDER), "ci", "--no-audit", "--no-fund"]
            subprocess.run(command, check=True, capture_output=True)
            stamp.write_bytes(wanted)


@pytest.fixture(scope="session")
def identity_provider() -> Iterator[IdentityProvider]:
    """The running provider; with xdist one per worker."""
    install()
    folder = Path(tempfile.mkdtemp(prefix="explorer-oidc-"))
    provider = IdentityProvider(folder)
    try:
        provider.start()
        yield provider
    finally:
        provider.stop()
        shutil.rmtree(folder, ignore_errors=True)
