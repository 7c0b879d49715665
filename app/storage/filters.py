"""What a search may be narrowed to: a small tree over the payload's top-level fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Equal:
    """The field holds the value, or a list with the value in it."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field holds one of the values; no values match nothing."""

    field: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The field is a number within the bounds; None leaves an end open."""

    field: str
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class DateRange:
    """The field is a moment (RFC 3339) within the bounds; None leaves an end open."""

    field: str
    gte: datetime | None = None
    gt: datetime | None = None
    lte: datetime | None = None
    lt: datetime | None = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds; no parts match everything."""

    parts: tuple[Filters, ...]


@dataclass(frozen=True, slots=True)
class OneOf:
    """At least one part holds."""

    parts: tuple[Filters, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filters


Filters = Equal | AnyOf | NumberRange | DateRange | AllOf | OneOf | Not


def items(item_ids: Iterable[int]) -> AnyOf:
    """Passages of these items."""
    return AnyOf("item_id", tuple(item_ids))


def files(file_ids: Iterable[int]) -> AnyOf:
    """Passages of these files."""
    return AnyOf("file_id", tuple(file_ids))
