"""How much of a heap of units is done, how fast it goes and how long the rest will take: from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Label, and_, case, func
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.functions import FunctionElement

_Moment = ColumnElement[datetime | None] | InstrumentedAttribute[datetime | None]

_WINDOW = timedelta(minutes=5)
_SHORTEST_SECONDS = 3.0  # what ended just now says little about the next minutes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one heap is. `unit` says what is counted.

    `cancelled` ones are among the `failed`; `left` is what is neither done nor failed, `running` ones among
    it. `rate` is in units per second over the last five minutes, `eta_seconds` is None while nothing moves.
    """

    unit: str
    total: int
    done: int
    failed: int
    cancelled: int
    running: int
    left: int
    rate: float
    eta_seconds: float | None


def progress(
    unit: str,
    *,
    total: int,
    done: int,
    failed: int = 0,
    cancelled: int = 0,
    running: int = 0,
    rate: float = 0.0,
) -> Progress:
    """The rest follows from these."""
    left = max(0, total - done - failed)
    eta = left / rate if left and rate else None
    return Progress(unit, total, done, failed, cancelled, running, left, rate, eta)


def together(parts: Sequence[Progress], unit: str) -> Progress:
    """Several heaps that are worked off side by side."""
    names = ("total", "done", "failed", "cancelled", "running", "rate")
    return progress(unit, **{name: sum(getattr(part, name) for part in parts) for name in names})


def rate_of(number: float, seconds: float | None) -> float:
    """Units per second, from how many ended and since when."""
    return float(number) / max(float(seconds or 0), _SHORTEST_SECONDS) if number else 0.0


def seconds_left(share: float, started_at: datetime | None) -> float | None:
    """Of work that has this share (0 to 1) behind it, at its pace so far; None while nothing is done."""
    if started_at is None:
        return None
    rate = rate_of(share, (datetime.now(UTC) - started_at).total_seconds())
    return (1 - share) / rate if rate else None


def pace(
    amount: FunctionElement[Any],
    which: ColumnElement[bool],
    *,
    ended: _Moment,
    started: _Moment,
) -> tuple[Label[Any], Label[Any]]:
    """Columns `recent` (what of `amount` ended lately) and `seconds` (since the first of it moved; or null).

    That is its start where it lies within the last five minutes: a batch that ends as one has not come
    from nothing in that moment.
    """
    since = func.now() - _WINDOW
    recent = and_(which, ended > since)
    first = func.min(case((started > since, started), else_=ended)).filter(recent)
    return (
        func.coalesce(amount.filter(recent), 0).label("recent"),
        func.extract("epoch", func.clock_timestamp() - first).label("seconds"),
    )
