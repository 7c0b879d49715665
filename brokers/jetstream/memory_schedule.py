"""When a schedule of the stub twin is due: the server's patterns "@at", "@every" and six cron fields."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"
_DAYS = "SUN MON TUE WED THU FRI SAT"
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
_PERIOD = re.compile(r"(?:\d+[smh])+")
_FURTHEST_DAYS = 5 * 366  # as far as the server looks


class _Field(NamedTuple):
    first: int
    last: int
    names: dict[str, int]

    def values(self, text: str) -> list[int]:
        """What a field such as "*/10", "1-5" or "MON,WED" stands for; raises ValueError."""
        return sorted({number for part in text.split(",") for number in self._range(part)})

    def _range(self, part: str) -> range:
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        if span in {"*", "?"}:
            first, last = self.first, self.last
        else:
            first = self._number(low)
            last = self._number(high) if high else self.last if step else first
        if not self.first <= first <= last <= self.last:
            raise ValueError(f"{part!r} is out of range")
        return range(first, last + 1, int(step) if step else 1)

    def _number(self, text: str) -> int:
        named = self.names.get(text.upper())
        return int(text) if named is None else named


_FIELDS = (
    _Field(0, 59, {}),
    _Field(0, 59, {}),
    _Field(0, 23, {}),
    _Field(1, 31, {}),
    _Field(1, 12, {name: number for number, name in enumerate(_MONTHS.split(), 1)}),
    _Field(0, 6, {name: number for number, name in enumerate(_DAYS.split())}),
)


def next_due(pattern: str, zone: str | None, after: float) -> float:
    """The first moment after `after` (Unix seconds) at which a pattern is due; raises ValueError.

    "@at" names one moment, whenever it is asked.
    """
    if pattern.startswith("@at "):
        return datetime.fromisoformat(pattern.removeprefix("@at ")).timestamp()
    if pattern.startswith("@every "):
        return after + _period(pattern.removeprefix("@every "))
    fields = pattern.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{pattern!r} must have {len(_FIELDS)} fields")
    return _next_cron(fields, datetime.fromtimestamp(after, ZoneInfo(zone) if zone else UTC)).timestamp()


def _period(text: str) -> int:
    if not _PERIOD.fullmatch(text):
        raise ValueError(f"{text!r} is no period")
    seconds = sum(int(number) * _UNIT_SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", text))
    if seconds < 1:
        raise ValueError(f"{text!r} is shorter than a second")
    return seconds


def _next_cron(fields: list[str], after: datetime) -> datetime:
    seconds, minutes, hours, days, months, weekdays = (
        field.values(text) for field, text in zip(_FIELDS, fields, strict=True)
    )
    either = not {"*", "?"} & {fields[3][0], fields[5][0]}  # both are given: one of them is enough

    def covers(day: date) -> bool:
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        return day.month in months and (in_month or in_week if either else in_month and in_week)

    for ahead in range(_FURTHEST_DAYS):
        day = after.date() + timedelta(days=ahead)
        if covers(day):
            found = _first_on(day, (hours, minutes, seconds), after, after.tzinfo)
            if found is not None:
                return found
    raise ValueError("no such day in years")


def _first_on(
    day: date, parts: tuple[list[int], list[int], list[int]], after: datetime, zone: tzinfo | None
) -> datetime | None:
    """The first time of a day that comes after a moment; local times an hour around it are looked at."""
    hours, minutes, seconds = parts
    for hour in hours:
        if datetime.combine(day, time(hour, 59, 59), zone).timestamp() <= after.timestamp():
            continue
        for minute in minutes:
            if datetime.combine(day, time(hour, minute, 59), zone).timestamp() <= after.timestamp():
                continue
            for second in seconds:
                found = datetime.combine(day, time(hour, minute, second), zone)
                if found.timestamp() > after.timestamp():
                    return found
    return None
