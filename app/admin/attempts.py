"""The attempts of a dead letter as its page tells them: what nobody wrote down is None, never an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_LONGEST_SECONDS = 366 * 24 * 3600  # more than that is nonsense, as is what lies before it began


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run. `waited`, `ran` and `next_delay` are seconds; the last run has no next delay."""

    number: int
    worker: str | None
    version: str | None
    started_at: datetime | None
    waited: float | None
    ran: float | None
    error: str | None
    next_delay: float | None
    is_last: bool


def attempts_of(told: Sequence[Mapping[str, Any]]) -> tuple[Attempt, ...]:
    """The history of a letter, the first attempt first; strangers may have written anything into it."""
    return tuple(_attempt(one, place, len(told)) for place, one in enumerate(told, 1))


def _attempt(told: Mapping[str, Any], place: int, last: int) -> Attempt:
    begun, ended = _moment(told.get("started_at")), _moment(told.get("ended_at"))
    return Attempt(
        number=_number(told.get("attempt")) or place,
        worker=_text(told.get("worker")),
        version=_text(told.get("version")),
        started_at=begun,
        waited=_seconds(told.get("waited_seconds")),
        ran=_seconds((ended - begun).total_seconds()) if begun and ended else None,
        error=_text(told.get("error")),
        next_delay=_seconds(told.get("next_delay_seconds")) if place < last else None,
        is_last=place == last,
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _LONGEST_SECONDS else None


def _moment(value: Any) -> datetime | None:
    """A moment, written as Unix seconds or as text."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(value), UTC)
    except (OSError, OverflowError, TypeError, ValueError):
        return None
