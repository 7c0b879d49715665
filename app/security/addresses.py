"""Which network addresses a call to the outside may reach.

Explicit tables rather than `ipaddress.is_global`, whose answers changed between Python versions. IPv4 follows
the IANA special-purpose registry; of IPv6 only 2000::/3 is open at all.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_CLOSED_V4 = {
    IPv4Network(network): rule
    for network, rule in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local and cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
    )
}
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = {
    IPv6Network(network): rule
    for network, rule in (
        ("2001::/23", "protocol assignments, Teredo included"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
}
_NAT64 = IPv6Network("64:ff9b::/96")


def parse_address(text: str) -> Address:
    """An address as a resolver returns it; a zone such as %eth0 is dropped. Raises ValueError."""
    return ip_address(text.partition("%")[0])


def closed_reason(address: Address) -> str | None:
    """Why this address must not be reached, in a few words; None for a public one.

    An IPv4 address wrapped in IPv6 (mapped, NAT64) is judged by the address inside.
    """
    if isinstance(address, IPv6Address):
        inner = _wrapped(address)
        return closed_reason(inner) if inner else _closed_v6(address)
    return next((rule for network, rule in _CLOSED_V4.items() if address in network), None)


def _closed_v6(address: IPv6Address) -> str | None:
    if address not in _OPEN_V6:
        return "not a public IPv6 range"
    return next((rule for network, rule in _CLOSED_V6.items() if address in network), None)


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
