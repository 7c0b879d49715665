"""Where a request comes from: the address of the connection, unless a trusted proxy says for whom it asks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from flask import request

from app.api.context import container

_Networks = tuple[IPv4Network | IPv6Network, ...]


def client_address() -> str | None:
    """The client's address as text; None where the server knows none (a socket file).

    `X-Forwarded-For` grows from left to right, and anybody can send one: only what trusted proxies have added
    counts, so it is read from the right up to the first address that is not one of theirs.
    """
    trusted: _Networks = container().settings.trusted_proxies
    if not trusted:
        return request.remote_addr
    found = request.remote_addr
    for hop in reversed(_hops()):
        if not _is_in(found, trusted):
            break
        found = hop
    return found


def network_of(address: str) -> str:
    """Who shares a limit: an IPv4 address, or the /64 that one IPv6 customer has."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return str(parsed or address)


def _hops() -> list[str]:
    return [
        hop.strip() for hop in ",".join(request.headers.getlist("X-Forwarded-For")).split(",") if hop.strip()
    ]


def _is_in(address: str | None, networks: _Networks) -> bool:
    parsed = _parse(address or "")
    return parsed is not None and any(parsed in network for network in networks)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
