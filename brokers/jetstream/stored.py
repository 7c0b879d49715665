"""Messages as the server's API hands them out: dicts with subject, seq, and base64 data and headers."""

from __future__ import annotations

import base64
from typing import Any


def stored_payload(found: dict[str, Any]) -> bytes:
    """The body of a stored message."""
    return base64.b64decode(found.get("data") or "")


def all_headers(found: dict[str, Any]) -> dict[str, str]:
    """All headers of a stored message."""
    block = base64.b64decode(found.get("hdrs") or "").decode(errors="replace")
    lines = block.split("\r\n")[1:]  # the first one is the protocol's version
    pairs = (line.partition(":") for line in lines if line)
    return {name: value.strip() for name, _, value in pairs}


def own_headers(found: dict[str, Any]) -> dict[str, str]:
    """The headers of a stored message without those that told the server what to do."""
    return {name: value for name, value in all_headers(found).items() if not name.startswith("Nats-")}
