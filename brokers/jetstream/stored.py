"""Messages as the server's API hands them out: dicts with subject, seq, and base64 data and headers."""

from __future__ import annotations

import base64
import re
from datetime import datetime
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


def stored_at(found: dict[str, Any]) -> int:
    """When a message was stored, in Unix nanoseconds; its API time is RFC 3339 with up to nine digits."""
    seconds, fraction = re.fullmatch(r"([^.]+?)(?:\.(\d+))?Z", found["time"]).groups()  # type: ignore[union-attr]
    whole = round(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return whole * 10**9 + int((fraction or "0").ljust(9, "0"))


def own_headers(found: dict[str, Any]) -> dict[str, str]:
    """The headers of a stored message without those that told the server what to do."""
    return {name: value for name, value in all_headers(found).items() if not name.startswith("Nats-")}
