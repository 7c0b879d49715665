"""The operator's list of what calls may reach although it is private."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from app.security.addresses import Address


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


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, int(port[1:]) if port.startswith(":") else None
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and ":" not in host:
        return host, int(port)
    return entry, None
