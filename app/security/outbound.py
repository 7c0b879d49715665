"""The one HTTP client for calls to addresses that users or operators configure.

A name is resolved once per connection, its addresses are checked, and the connection goes to a checked one
while TLS and Host keep the name: what was checked is what is reached. No redirects, proxies or cookies.
"""

from __future__ import annotations

import json as json_codec
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import httpcore
import httpx

from app.errors import InvalidInputError, ProviderUnavailableError
from app.security.addresses import Address, closed_reason, parse_address

_LOG = logging.getLogger(__name__)

# (host, port) -> addresses as text. Raises OSError.
Resolver = Callable[[str, int], list[str]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver for every address of `host`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class OutboundOptions:
    """`allowed_hosts` are names, addresses, CIDR blocks or `*.suffix`, each optionally with `:port`.

    What they cover may be private and may be plain http; everything else must be public and, unless
    `allow_plain_http`, https.
    """

    allowed_hosts: tuple[str, ...] = ()
    allow_plain_http: bool = False
    max_response_bytes: int = 64 * 1024 * 1024
    connect_timeout_seconds: float = 10.0
    max_connections: int = 20
    ca_file: str | None = None
    resolver: Resolver = field(default=resolve, repr=False)


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """Status, headers with lower-case names, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json_codec.loads(self.body)


class OutboundClient:
    """Thread-safe; opens nothing before the first request and keeps connections for the next ones."""

    def __init__(self, options: OutboundOptions | None = None) -> None:
        self._options = options or OutboundOptions()
        self._allowed = AllowedHosts(self._options.allowed_hosts)
        self._lock = threading.Lock()
        self._pool: httpcore.ConnectionPool | None = None
        self._pid = os.getpid()
        self._deadline = _Deadline()

    def check(self, url: str) -> None:
        """Apply the rules that need no network. Raises InvalidInputError(field="base_url")."""
        self._parse(url)

    def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> OutboundResponse:
        """Send one request and read the whole answer within `timeout_seconds` altogether.

        The body is `json`, or `content` as it is, with its type in `headers`. Any status is returned, also
        3xx. Raises InvalidInputError(field="base_url") when the address is not allowed,
        ProviderUnavailableError when there is no complete answer in time or it is too large.
        """
        parsed = self._parse(url)
        if json is not None:
            content = json_codec.dumps(json, ensure_ascii=False).encode()
        request = httpcore.Request(
            method.upper(),
            httpcore.URL(
                scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
            ),
            headers=_headers(parsed, headers or {}, content),
            content=content,
            extensions={"timeout": self._timeouts(timeout_seconds)},
        )
        self._deadline.start(timeout_seconds)
        try:
            return self._exchange(request)
        except _FAILURES as error:
            raise _unavailable(parsed, error, timeout_seconds) from error
        finally:
            self._deadline.stop()

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.close()

    def _exchange(self, request: httpcore.Request) -> OutboundResponse:
        response = self._connections().handle_request(request)
        try:
            body = self._read(response.iter_stream())
        finally:
            response.close()
        names = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}
        return OutboundResponse(response.status, names, body)

    def _read(self, chunks: Iterable[bytes]) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self._options.max_response_bytes:
                raise _TooLongError(f"the answer is larger than {self._options.max_response_bytes} bytes")
            self._deadline.remaining()
        return bytes(body)

    def _timeouts(self, total_seconds: float) -> dict[str, float]:
        connect = min(total_seconds, self._options.connect_timeout_seconds)
        return {"connect": connect, "read": total_seconds, "write": total_seconds, "pool": total_seconds}

    def _connections(self) -> httpcore.ConnectionPool:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():  # a fork must not share connections
                self._pid = os.getpid()
                backend = _GuardedBackend(self._options.resolver, self._allowed, self._deadline)
                self._pool = httpcore.ConnectionPool(
                    ssl_context=_ssl_context(self._options.ca_file),
                    max_connections=self._options.max_connections,
                    keepalive_expiry=30.0,
                    network_backend=backend,
                )
            return self._pool

    def _parse(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError, TypeError) as error:
            raise _refused(f"it is not a valid URL ({error})") from error
        if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
            raise _refused("it must start with https:// or http:// and name a host")
        if parsed.userinfo:
            raise _refused("it must not contain a user name or password")
        host, port = _host_and_port(parsed)
        if (
            parsed.scheme == "http"
            and not self._options.allow_plain_http
            and not self._plain_http(host, port)
        ):
            raise _refused(
                f"plain http is only allowed for hosts on the operator's list; {host} is not on it"
            )
        return parsed

    def _plain_http(self, host: str, port: int) -> bool:
        if self._allowed.covers_name(host, port):
            return True
        try:
            return self._allowed.covers_address(parse_address(host), port)
        except ValueError:
            return False


class AllowedHosts:
    """The operator's list of hosts and networks that calls may reach although they are private."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in entries:
            self._learn(entry.strip().lower())

    def covers_name(self, host: str, port: int) -> bool:
        """Whether the name itself, or a `*.suffix` above it, is listed (for this port or any)."""
        labels = host.split(".")
        names = [host, *("*." + ".".join(labels[i:]) for i in range(1, len(labels)))]
        return any((name, which) in self._names for name in names for which in (port, None))

    def covers_address(self, address: Address, port: int) -> bool:
        """Whether a listed address or network holds this address (for this port or any)."""
        return any(address in network and which in (port, None) for network, which in self._networks)

    def _learn(self, entry: str) -> None:
        if not entry:
            return
        host, port = _split_port(entry)
        try:
            self._networks.append((ip_network(host, strict=False), port))
        except ValueError:
            self._names.add((host.rstrip("."), port))


class _Deadline(threading.local):
    """When the request that this thread is making must be over."""

    at: float | None = None

    def start(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def stop(self) -> None:
        self.at = None

    def remaining(self) -> float | None:
        """Seconds left, None outside a request. Raises httpcore.ReadTimeout when none are left."""
        if self.at is None:
            return None
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline passed")
        return left

    def cap(self, timeout: float | None) -> float | None:
        left = self.remaining()
        if left is None or timeout is None:
            return left if timeout is None else timeout
        return min(left, timeout)


class _GuardedBackend(httpcore.NetworkBackend):
    """Opens TCP connections to checked addresses only."""

    def __init__(self, resolver: Resolver, allowed: AllowedHosts, deadline: _Deadline) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self.checked_addresses(host, port)
        for position, address in enumerate(addresses):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._deadline.cap(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
            else:
                return _TimedStream(stream, self._deadline)
        raise httpcore.ConnectError(f"{host} has no address")

    def checked_addresses(self, host: str, port: int) -> list[str]:
        """Resolve and check. Raises InvalidInputError when any address is closed, ConnectError when none."""
        try:
            addresses = [parse_address(text) for text in self._resolver(host.strip("[]"), port)]
        except (OSError, UnicodeError, ValueError) as error:
            raise httpcore.ConnectError(f"cannot resolve {host}") from error
        if not self._allowed.covers_name(host.strip("[]").rstrip("."), port):
            for address in addresses:
                self._check(host, address, port)
        return [str(address) for address in addresses]

    def _check(self, host: str, address: Address, port: int) -> None:
        reason = closed_reason(address)
        if reason and not self._allowed.covers_address(address, port):
            _LOG.warning("outbound call refused", extra={"host": host, "port": port, "reason": reason})
            raise _refused(
                f"{host} leads to an address that is not public ({reason}); "
                "an operator can add the host to OUTBOUND_ALLOWED_HOSTS"
            )


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every step also ends at the request's deadline: one byte a minute cannot hold us."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cap(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cap(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cap(timeout))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TooLongError(Exception):
    """The answer is over the size limit."""


_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, _TooLongError)


def _refused(rule: str) -> InvalidInputError:
    return InvalidInputError(f"The address cannot be called: {rule}.", field="base_url")


def _unavailable(url: httpx.URL, error: Exception, timeout_seconds: float) -> ProviderUnavailableError:
    if isinstance(error, httpcore.TimeoutException):
        return ProviderUnavailableError(f"{url.host} did not answer within {timeout_seconds:g} seconds.")
    return ProviderUnavailableError(f"{url.host} gave no usable answer: {error or type(error).__name__}.")


def _headers(url: httpx.URL, given: Mapping[str, str], content: bytes | None) -> list[tuple[bytes, bytes]]:
    headers = {
        "host": url.netloc.decode("ascii"),
        "accept": "application/json",
        "user-agent": "semantic-explorer",
    }
    if content is not None:
        headers |= {"content-type": "application/json", "content-length": str(len(content))}
    headers |= {name.lower(): value for name, value in given.items() if name.lower() not in _OWN_HEADERS}
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def _host_and_port(url: httpx.URL) -> tuple[str, int]:
    host = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
    return host, url.port or _DEFAULT_PORTS[url.scheme]


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, int(port[1:]) if port.startswith(":") else None
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and ":" not in host:
        return host, int(port)
    return entry, None


def _ssl_context(ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities and Mozilla's; with `ca_file` the operator's too."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(ca_file or certifi.where())
    return context
