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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from app.errors import InvalidInputError, ProviderUnavailableError
from app.security.addresses import Address, closed_reason, parse_address
from app.security.allowed_hosts import AllowedHosts
from app.security.deadline import Deadline, StoppedError, TimedStream

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
    on_refusal: Callable[[str], object] | None = field(default=None, repr=False)  # for whoever counts

    def refused(self, reason: str, rule: str) -> InvalidInputError:
        """The error for an address that breaks a rule, and a word about it to `on_refusal`."""
        if self.on_refusal is not None:
            self.on_refusal(reason)
        return InvalidInputError(f"The address cannot be called: {rule}.", field="base_url")


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """Status, headers with lower-case names, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError, also for one that is nested too deeply."""
        try:
            return json_codec.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


@dataclass(frozen=True, slots=True)
class OutboundStream:
    """As OutboundResponse, with a body that is still on its way; reading it may fail as a request may."""

    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes]


class OutboundClient:
    """Thread-safe; opens nothing before the first request and keeps connections for the next ones."""

    def __init__(self, options: OutboundOptions | None = None) -> None:
        self._options = options or OutboundOptions()
        self._allowed = AllowedHosts(self._options.allowed_hosts)
        self._lock = threading.Lock()
        self._pool: httpcore.ConnectionPool | None = None
        self._pid = os.getpid()
        self._deadline = Deadline()

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
        ProviderUnavailableError when there is no complete answer in time or it is too large. An exception
        that another thread raises in this one ends the call within a second once it is connected.
        """
        parsed, request = self._prepared(method, url, json, content, headers, timeout_seconds)
        self._deadline.start(timeout_seconds)
        try:
            return self._exchange(request)
        except _FAILURES as error:
            raise _unavailable(parsed, error, timeout_seconds) from error
        finally:
            self._deadline.stop()

    @contextmanager
    def stream(
        self,
        url: str,
        *,
        json: object,
        headers: Mapping[str, str],
        timeout_seconds: float,
        stopped: threading.Event,
    ) -> Iterator[OutboundStream]:
        """POST as `request` does, and read the body as it comes, in this thread only.

        Leaving the block ends the call, and so does `stopped` from any thread, within a second; both as
        ProviderUnavailableError where somebody still reads.
        """
        parsed, request = self._prepared("POST", url, json, None, headers, timeout_seconds)
        self._deadline.start(timeout_seconds, stopped)
        try:
            response = self._connections().handle_request(request)
            try:
                yield OutboundStream(response.status, _names(response), self._chunks(response))
            finally:
                response.close()
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

    def _prepared(
        self,
        method: str,
        url: str,
        json: object,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        timeout_seconds: float,
    ) -> tuple[httpx.URL, httpcore.Request]:
        parsed = self._parse(url)
        if json is not None:
            content = json_codec.dumps(json, ensure_ascii=False).encode()
        target = httpcore.URL(
            scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
        )
        return parsed, httpcore.Request(
            method.upper(),
            target,
            headers=_headers(parsed, headers or {}, content),
            content=content,
            extensions={"timeout": self._timeouts(timeout_seconds)},
        )

    def _exchange(self, request: httpcore.Request) -> OutboundResponse:
        response = self._connections().handle_request(request)
        try:
            body = b"".join(self._chunks(response))
        finally:
            response.close()
        return OutboundResponse(response.status, _names(response), body)

    def _chunks(self, response: httpcore.Response) -> Iterator[bytes]:
        """The body as it comes, within the limits of size and time."""
        size = 0
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > self._options.max_response_bytes:
                raise _TooLongError(f"the answer is larger than {self._options.max_response_bytes} bytes")
            self._deadline.remaining()
            yield chunk

    def _timeouts(self, total_seconds: float) -> dict[str, float]:
        connect = min(total_seconds, self._options.connect_timeout_seconds)
        return {"connect": connect, "read": total_seconds, "write": total_seconds, "pool": total_seconds}

    def _connections(self) -> httpcore.ConnectionPool:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():  # a fork must not share connections
                self._pid = os.getpid()
                backend = _GuardedBackend(self._options, self._allowed, self._deadline)
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
            raise self._options.refused("invalid_url", f"it is not a valid URL ({error})") from error
        if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
            rule = "it must start with https:// or http:// and name a host"
            raise self._options.refused("invalid_url", rule)
        if parsed.userinfo:
            raise self._options.refused("invalid_url", "it must not contain a user name or password")
        host, port = _host_and_port(parsed)
        if (
            parsed.scheme == "http"
            and not self._options.allow_plain_http
            and not self._plain_http(host, port)
        ):
            rule = f"plain http is only allowed for hosts on the operator's list; {host} is not on it"
            raise self._options.refused("plain_http", rule)
        return parsed

    def _plain_http(self, host: str, port: int) -> bool:
        if self._allowed.covers_name(host, port):
            return True
        try:
            return self._allowed.covers_address(parse_address(host), port)
        except ValueError:
            return False


class _GuardedBackend(httpcore.NetworkBackend):
    """Opens TCP connections to checked addresses only."""

    def __init__(self, options: OutboundOptions, allowed: AllowedHosts, deadline: Deadline) -> None:
        self._options = options
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
                return TimedStream(stream, self._deadline)
        raise httpcore.ConnectError(f"{host} has no address")

    def checked_addresses(self, host: str, port: int) -> list[str]:
        """Resolve and check. Raises InvalidInputError when any address is closed, ConnectError when none."""
        try:
            addresses = [parse_address(text) for text in self._options.resolver(host.strip("[]"), port)]
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
            rule = (
                f"{host} leads to an address that is not public ({reason}); "
                "an operator can add the host to OUTBOUND_ALLOWED_HOSTS"
            )
            raise self._options.refused("closed_address", rule)


class _TooLongError(Exception):
    """The answer is over the size limit."""


_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    _TooLongError,
    StoppedError,
)


def _unavailable(url: httpx.URL, error: Exception, timeout_seconds: float) -> ProviderUnavailableError:
    if isinstance(error, httpcore.TimeoutException):
        return ProviderUnavailableError(f"{url.host} did not answer within {timeout_seconds:g} seconds.")
    return ProviderUnavailableError(f"{url.host} gave no usable answer: {error or type(error).__name__}.")


def _names(response: httpcore.Response) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}


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


def _ssl_context(ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities and Mozilla's; with `ca_file` the operator's too."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(ca_file or certifi.where())
    return context
