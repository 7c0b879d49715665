"""Who asks. Every service verb takes a principal and scopes its queries by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated owner."""

    owner_id: str
    display_name: str


# Used when no identity provider is configured; the server then binds loopback only.
SINGLE_USER = Principal(owner_id="local", display_name="You")
