"""How the panel says ages, rates and settings; registered as template filters beside those of the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))
_STATES = {"running": "accent", "retrying": "warn", "succeeded": "good", "dead": "bad"}


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, to the second while that is short: 8 s, 5 min 3 s, 2 h 10 min, 3 d 4 h."""
    if moment is None:
        return "\N{EN DASH}"
    return span(((now or datetime.now(UTC)) - moment).total_seconds())


def until(moment: datetime, now: datetime | None = None) -> str:
    """How long it is to a moment, said like an age."""
    return span((moment - (now or datetime.now(UTC))).total_seconds())


def span(seconds: float | None) -> str:
    """Seconds in the two largest units."""
    if seconds is None:
        return "\N{EN DASH}"
    whole = max(0, round(seconds))
    for size, unit, smaller, small in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def rate(per_minute: float) -> str:
    """Jobs a minute."""
    return f"{per_minute:,.0f}" if per_minute >= 10 or per_minute == 0 else f"{per_minute:.1f}"  # noqa: PLR2004


def setting(value: Any) -> str:
    """A field of a stream or consumer, short."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(getattr(value, "value", value))


def class_name(dotted: str | None) -> str:
    """The last word of a class's full name."""
    return (dotted or "").rpartition(".")[2]


def shade(state: str) -> str:
    """The badge of a job's state."""
    return _STATES.get(state, "")


def moment(value: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if value else "\N{EN DASH}"


FILTERS: dict[str, Callable[..., str]] = {
    "age": age,
    "until": until,
    "span": span,
    "per_minute": rate,
    "setting": setting,
    "shade": shade,
    "class_name": class_name,
    "moment": moment,
}
