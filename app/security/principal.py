"""Who asks. Every service verb takes a principal and scopes its queries by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a principal may do with what it can see. Each role includes those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, least: Role) -> bool:
        """Whether this role may do what `least` may."""
        return _ORDER.index(self) >= _ORDER.index(least)


_ORDER = tuple(Role)


def lesser(one: Role, other: Role) -> Role:
    """The role that may do less: a token never does more than its owner."""
    return min(one, other, key=_ORDER.index)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated owner."""

    owner_id: str
    display_name: str
    role: Role = Role.OPERATOR


# Used when no identity provider is configured; the server then binds loopback only.
SINGLE_USER = Principal(owner_id="local", display_name="You", role=Role.ADMIN)
