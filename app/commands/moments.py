"""Moments and spans of time as commands take them: 2030-01-31T08:00Z, 90s, 15m, 2h, 1d."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN = re.compile(r"(\d{1,5})([smhd])")


class Moment(click.ParamType[datetime]):
    """A date and time in ISO's format; UTC where it names no zone."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Fails with what it should read."""
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} must read like 2030-01-31T08:00Z", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


class Span(click.ParamType[timedelta]):
    """A number and its unit."""

    name = "span"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Fails with what it should read."""
        found = _SPAN.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} must be a number with s, m, h or d, e.g. 15m", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


AT = click.option("--at", type=Moment(), help="At this time (ISO; UTC if it names no zone), not now.")
IN = click.option("--in", "after", type=Span(), help="After so long, e.g. 15m, not now.")


def moment_of(at: datetime | None, after: timedelta | None, names: str = "--at and --in") -> datetime | None:
    """The moment that one of two options asks for; None for neither, and both are a mistake of usage."""
    if at is not None and after is not None:
        raise click.UsageError(f"give one of {names}")
    return at if after is None else datetime.now(UTC) + after
