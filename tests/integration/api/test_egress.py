"""No address that a user can write down leads to a machine of ours: a canary there sees no connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from itertools import product

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.factory import create_app
from app.pipeline.remote import Remote
from app.security.outbound import OutboundClient, OutboundOptions, resolve
from tests.integration.api.conftest import Api


class Canary:
    """Listens on loopback, in both families where there are two, and counts who comes."""

    def __init__(self) -> None:
        first = socket.create_server(("127.0.0.1", 0))
        self.port = first.getsockname()[1]
        self._sockets = [first]
        if socket.has_ipv6:
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        self.seen = 0
        for one in self._sockets:
            threading.Thread(target=self._accept, args=(one,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.seen += 1
            connection.close()

    def close(self) -> None:
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


def _octets() -> Iterator[str]:
    """127.0.0.1 with each part decimal, octal and hexadecimal."""
    parts = [("127", "0177", "0x7f"), ("0", "00", "0x0"), ("0",), ("1", "01", "0x1")]
    yield from (".".join(one) for one in product(*parts))


SPELLINGS = [
    *_octets(),
    *("127.1", "127.0.1", "0x7f.1", "0177.1", "127.0x1", "2130706433", "0x7f000001", "0X7F000001"),
    *("017700000001", "0000017700000001", "127.0.0.2", "127.1.2.3", "127.255.255.254", "127.0.0.1."),
    *("0", "0.0.0.0", "00.00.00.00", "0x0", "localhost", "LOCALHOST", "localhost.", "LocalHost."),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0:1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::FFFF:7F00:0001]"),
    *("[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[2002:7f00:1::]", "[::1%25lo]", "[::1%lo]", "[fe80::1%25lo]"),
    *(
        "127。0。0。1",
        "127.0.0.1",
        "①②⑦.⓪.⓪.①",
        "ⓛocalhost",
        "localhost。",
        "%31%32%37.0.0.1",
        "127.0.0.1%00",
    ),
    *("user@127.0.0.1", "example.com@127.0.0.1", "example.com:80@127.0.0.1", "127.0.0.1\\@example.com"),
    *("far.example", "one-of-two.example", "mapped.example", "cname.example"),
]


def look_up(host: str, port: int) -> list[str]:
    """Names of an attacker's, which lead here although nothing in them says so."""
    theirs = {
        "one-of-two.example": ["203.0.114.1", "127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "cname.example": ["127.0.0.1"],
        "far.example": ["2002:7f00:1::"],
    }
    return theirs.get(host) or resolve(host, port)


@pytest.fixture
def guarded(container: Container, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """The application as it comes: no private host is allowed; plain http is, to try the addresses alone."""
    monkeypatch.setattr(Remote, "_wait_seconds", lambda *_: 0.0)  # names that lead nowhere are tried again
    http = OutboundClient(OutboundOptions(allow_plain_http=True, resolver=look_up))
    vars(container)["http"] = http
    yield create_app(container).test_client()
    http.close()


@pytest.mark.parametrize(("noun", "scheme"), [("embedder", "http"), ("llm", "https")])
def test_no_spelling_of_loopback_is_called(guarded: FlaskClient, canary: Canary, noun: str, scheme: str):
    assert len(SPELLINGS) >= 80
    api, answered = Api(guarded), []
    body = {"provider": "openai", "model": "m", "api_key": "k"}
    sizes = {"dimensions": 3} if noun == "embedder" else {}
    for number, spelling in enumerate(SPELLINGS):
        url = f"{scheme}://{spelling}:{canary.port}/v1"
        made = guarded.post(f"/api/{noun}s", json={**body, **sizes, "name": f"n{number}", "base_url": url})
        assert made.status_code in {201, 400}, url
        if made.status_code == 201:
            key = (made.json or {})[f"{noun}_id"]
            answer = guarded.post(f"/api/{noun}s/{key}/test", json={})
            answered += [url] if answer.status_code < 400 and (answer.json or {}).get("success") else []
            api.delete(f"/api/{noun}s/{key}")
    assert answered == []
    assert canary.seen == 0


def test_the_canary_sees_what_is_allowed(container: Container, canary: Canary):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canary, "seen", 0)
        http = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
        vars(container)["http"] = http
        client = create_app(container).test_client()
        body = {"name": "n", "provider": "openai", "model": "m", "api_key": "k"}
        made = client.post("/api/llms", json={**body, "base_url": f"http://127.0.0.1:{canary.port}/v1"})
        client.post(f"/api/llms/{(made.json or {})['llm_id']}/test", json={})
        assert canary.seen > 0
        http.close()
