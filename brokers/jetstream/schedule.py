"""Delay without anybody waiting: a delayed message is a schedule that the server fires.

It lies in the queue's own stream on a subject that no consumer covers, costs no worker memory and
no place in max_ack_pending, and outlives the stream's maximum age.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

_END_OF_TIME_MS = 1e15  # some 30,000 years from now


def schedule_headers(delay_ms: float, target: str) -> dict[str, str]:
    """Headers that make the server publish the message on `target` when `delay_ms` are over."""
    return schedule_at(datetime.now(UTC) + timedelta(milliseconds=delay_ms), target)


def schedule_at(due: datetime, target: str) -> dict[str, str]:
    """The same for a moment; one in the past fires at once."""
    return {
        "Nats-Schedule": f"@at {due.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}",
        "Nats-Schedule-Target": target,
        "Nats-TTL": "never",
    }


def server_time(text: str) -> datetime:
    """A time that the server wrote (RFC 3339); nanoseconds are cut to what Python knows."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def is_number(value: object) -> TypeGuard[int | float]:
    """True for what can be milliseconds; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_time(value: object) -> bool:
    """True for Unix milliseconds of this era; arithmetic with others overflows, or means nothing."""
    return is_number(value) and 0 <= value < _END_OF_TIME_MS


def delay_until(eta_ms: object) -> int | None:
    """Milliseconds from now to an eta in an enqueued message's options; None when there is none."""
    if not is_number(eta_ms):
        return None
    return max(0, int(eta_ms - datetime.now(UTC).timestamp() * 1000))


def is_past(deadline_ms: object, *, in_ms: float = 0) -> bool:
    """True for a deadline (Unix milliseconds) that is over `in_ms` from now; False for none or nonsense."""
    if not is_number(deadline_ms):
        return False
    return datetime.now(UTC).timestamp() * 1000 + in_ms > deadline_ms
