"""The guarded client reaches what it may, and nothing else, however the address is spelled."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.errors import InvalidInputError, ProviderUnavailableError
from app.security.addresses import closed_reason, parse_address
from app.security.allowed_hosts import AllowedHosts
from app.security.outbound import OutboundClient, OutboundOptions

CLOSED_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

OPEN_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]

LOOPBACK_SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
    "127。0。0。1",
    "127.0.0.1",
    "ⓛocalhost",
]


@pytest.mark.parametrize("address", CLOSED_ADDRESSES)
def test_an_address_that_is_not_public_is_closed(address: str):
    assert closed_reason(parse_address(address))


@pytest.mark.parametrize("address", OPEN_ADDRESSES)
def test_a_public_address_is_open(address: str):
    assert closed_reason(parse_address(address)) is None


class Canary:
    """A server on loopback that counts connections and answers as told."""

    def __init__(self) -> None:
        self.hosts: list[str | None] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: _reply(
            handler, 200, b'{"ok": true}'
        )
        self.port = 0


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def canary() -> Iterator[Canary]:
    state = Canary()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.hosts.append(self.headers["Host"])
            state.answer(self)

        do_POST = do_GET  # noqa: N815 - the name http.server calls

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@contextmanager
def client_of(**options: object) -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(**options))  # type: ignore[arg-type] # options by name
    yield client
    client.close()


@pytest.mark.parametrize("spelling", LOOPBACK_SPELLINGS)
def test_loopback_is_refused_in_every_spelling(canary: Canary, spelling: str):
    with (
        client_of(allow_plain_http=True) as client,
        pytest.raises((InvalidInputError, ProviderUnavailableError)),
    ):
        client.request("GET", f"http://{spelling}:{canary.port}/", timeout_seconds=3)
    assert canary.hosts == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com",
        "//example.com",
        "example.com",
        "https://",
        "https:///path",
        "http://[::1",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1\\@example.com/",
        "https://exa mple.com/",
        "https://example.com:99999/",
        "https://example.com\r\nHost: evil/",
        "",
    ],
)
def test_what_is_no_plain_web_address_is_refused_by_field(url: str):
    with client_of(resolver=lambda *_: ["127.0.0.1"]) as client, pytest.raises(InvalidInputError) as refused:
        client.request("GET", url, timeout_seconds=3)
    assert refused.value.field == "base_url"


def test_plain_http_is_only_for_listed_hosts():
    with client_of(allowed_hosts=("10.0.0.0/8", "tei.internal", "*.svc:8080")) as client:
        client.check("http://10.1.2.3/v1")
        client.check("http://tei.internal:80/")
        client.check("http://a.b.svc:8080/")
        for url in ("http://example.com/", "http://a.b.svc/", "http://11.0.0.1/", "http://svc:8080/"):
            with pytest.raises(InvalidInputError, match="plain http"):
                client.check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "invalid_url"),
        ("https://user@example.com/", "invalid_url"),
        ("http://example.com/", "plain_http"),
        ("https://inside.example/", "closed_address"),
    ],
)
def test_a_refusal_is_told_to_whoever_counts(url: str, reason: str):
    told: list[str] = []
    with client_of(resolver=lambda *_: ["10.0.0.1"], on_refusal=told.append) as client:
        for _ in range(2):
            with pytest.raises(InvalidInputError):
                client.request("GET", url, timeout_seconds=3)
    assert told == [reason, reason]


def test_one_closed_address_among_public_ones_is_enough_to_refuse():
    with (
        client_of(resolver=lambda *_: ["8.8.8.8", "10.0.0.1"]) as client,
        pytest.raises(InvalidInputError, match="private"),
    ):
        client.request("GET", "https://mixed.example/", timeout_seconds=3)


def test_a_name_that_changes_its_address_is_asked_once_and_then_pinned(canary: Canary):
    answers = iter([["127.0.0.1"]])  # a second question would fail
    with client_of(
        allowed_hosts=("127.0.0.1",), allow_plain_http=True, resolver=lambda *_: next(answers)
    ) as client:
        client.request("GET", f"http://rebinding.example:{canary.port}/", timeout_seconds=3)
    assert canary.hosts == [f"rebinding.example:{canary.port}"]


def test_a_name_that_turns_private_later_is_refused(canary: Canary):
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    options = {
        "allowed_hosts": ("127.0.0.1",),
        "allow_plain_http": True,
        "resolver": lambda *_: next(answers),
    }
    canary.answer = lambda handler: _reply(handler, 200, b"{}", Connection="close")
    with client_of(**options) as client:
        client.request("GET", f"http://rebinding.example:{canary.port}/", timeout_seconds=3)
        with pytest.raises(InvalidInputError, match="loopback"):
            client.request("GET", f"http://rebinding.example:{canary.port}/", timeout_seconds=3)
    assert len(canary.hosts) == 1


def test_a_redirect_is_returned_and_not_followed(canary: Canary):
    target = f"http://127.0.0.1:{canary.port}/secret"
    canary.answer = lambda handler: _reply(handler, 302, b"", Location=target)
    with client_of(allowed_hosts=("127.0.0.1",)) as client:
        response = client.request("GET", f"http://127.0.0.1:{canary.port}/", timeout_seconds=3)
    assert (response.status, len(canary.hosts)) == (302, 1)


def test_cookies_and_proxies_of_the_environment_are_ignored(canary: Canary, monkeypatch: pytest.MonkeyPatch):
    seen: list[str | None] = []
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Cookie"])
        _reply(handler, 200, b"{}", **{"Set-Cookie": "a=b"})

    canary.answer = answer
    with client_of(allowed_hosts=("127.0.0.1",)) as client:
        for _ in range(2):
            client.request("GET", f"http://127.0.0.1:{canary.port}/", timeout_seconds=3)
    assert seen == [None, None]


def test_a_huge_answer_is_cut_off(canary: Canary):
    canary.answer = lambda handler: _reply(handler, 200, b"x" * 5000)
    with (
        client_of(allowed_hosts=("127.0.0.1",), max_response_bytes=1000) as client,
        pytest.raises(ProviderUnavailableError, match="1000 bytes"),
    ):
        client.request("GET", f"http://127.0.0.1:{canary.port}/", timeout_seconds=3)


def test_an_answer_in_drops_ends_at_the_deadline(canary: Canary):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        _drip(handler.connection, b"x")
        handler.close_connection = True

    canary.answer = drip
    with (
        client_of(allowed_hosts=("127.0.0.1",)) as client,
        pytest.raises(ProviderUnavailableError, match=r"within 0\.4 seconds"),
    ):
        client.request("GET", f"http://127.0.0.1:{canary.port}/", timeout_seconds=0.4)


def test_headers_in_drops_end_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_drip_headers, args=(listener,), daemon=True).start()
        with (
            client_of(allowed_hosts=("127.0.0.1",)) as client,
            pytest.raises(ProviderUnavailableError, match="within"),
        ):
            client.request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_seconds=0.4)


def _drip_headers(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        _drip(connection, b"H")


def _drip(connection: socket.socket, byte: bytes) -> None:
    """Until the other side hangs up; who reads on until the end waits for longer than a test may take."""
    with suppress(OSError):
        while True:
            connection.sendall(byte)
            time.sleep(0.1)


def _certificate(name: str, folder: Path) -> Path:
    """A self-signed certificate for `name` and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def test_tls_is_checked_against_the_name_although_an_address_is_dialled(tmp_path: Path):
    pem = _certificate("api.example", tmp_path)
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _reply(self, 200, b"{}")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    port = server.server_address[1]
    options = {"allowed_hosts": ("127.0.0.1",), "ca_file": str(pem), "resolver": lambda *_: ["127.0.0.1"]}
    with client_of(**options) as client:
        assert client.request("GET", f"https://api.example:{port}/", timeout_seconds=3).status == 200
        with pytest.raises(ProviderUnavailableError, match="certificate"):
            client.request("GET", f"https://other.example:{port}/", timeout_seconds=3)
    server.shutdown()
    server.server_close()
    assert asked == ["api.example", "other.example"]


def test_nobody_there_is_a_passing_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with client_of(allowed_hosts=("127.0.0.1",)) as client, pytest.raises(ProviderUnavailableError):
        client.request("GET", f"http://127.0.0.1:{port}/", timeout_seconds=2)


def test_a_json_body_and_own_headers_are_sent_but_host_cannot_be_forged(canary: Canary):
    seen: dict[str, str] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.update({name.lower(): value for name, value in handler.headers.items()})
        seen["body"] = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        _reply(handler, 200, b'{"a": "\xc3\xa9"}')

    canary.answer = answer
    with client_of(allowed_hosts=(f"localhost:{canary.port}",)) as client:
        response = client.request(
            "POST",
            f"http://localhost:{canary.port}/",
            json={"t": "é"},
            headers={"Authorization": "Bearer k", "Host": "evil"},
            timeout_seconds=3,
        )
    assert response.json() == {"a": "é"}
    assert (seen["host"], seen["authorization"]) == (f"localhost:{canary.port}", "Bearer k")
    assert seen["body"] == '{"t": "é"}'


def test_the_list_takes_names_suffixes_addresses_networks_and_ports():
    allowed = AllowedHosts(
        ["Tei.Internal", "*.svc", "10.0.0.0/8", "[fd00::1]:9", "192.168.1.5:81", "", "fd11::/16"]
    )
    assert allowed.covers_name("tei.internal", 1)
    assert allowed.covers_name("a.b.svc", 1)
    assert not allowed.covers_name("svc", 1)
    assert not allowed.covers_name("eviltei.internal", 1)
    assert allowed.covers_address(parse_address("10.9.9.9"), 1)
    assert allowed.covers_address(parse_address("fd11::1"), 1)
    assert allowed.covers_address(parse_address("fd00::1"), 9)
    assert not allowed.covers_address(parse_address("fd00::1"), 10)
    assert allowed.covers_address(parse_address("192.168.1.5"), 81)
    assert not allowed.covers_address(parse_address("192.168.1.5"), 82)
