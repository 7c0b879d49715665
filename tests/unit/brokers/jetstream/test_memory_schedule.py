"""When the stub twin's schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from brokers.jetstream.memory_schedule import next_due

START = datetime(2026, 1, 31, 22, 59, 30, tzinfo=UTC).timestamp()  # a Saturday


def due(pattern: str, zone: str | None = None) -> str:
    return datetime.fromtimestamp(next_due(pattern, zone, START), UTC).strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("* * * * * *", "01-31 22:59:31"),
        ("*/10 * * * * *", "01-31 22:59:40"),
        ("30 59 22 * * *", "02-01 22:59:30"),
        ("0 0 * * * *", "01-31 23:00:00"),
        ("0 30 3 * * *", "02-01 03:30:00"),
        ("0 5/20 * * * *", "01-31 23:05:00"),
        ("0 0 9-17/4 * * MON-FRI", "02-02 09:00:00"),
        ("0 0 0 29 feb ?", "02-29 00:00:00"),
        ("0 0 0 15 * TUE", "02-03 00:00:00"),  # both days are given: the first of them
        ("0 0 0 1,15 * *", "02-01 00:00:00"),
        ("@every 90s", "01-31 23:01:00"),
        ("@every 1h30m", "02-01 00:29:30"),
        ("@at 2026-02-03T04:05:06.000000Z", "02-03 04:05:06"),
    ],
)
def test_the_next_time_of_a_pattern_is_found(pattern: str, expected: str) -> None:
    assert due(pattern) == expected


def test_a_time_zone_moves_the_hours() -> None:
    assert due("0 30 3 * * *", "Europe/Berlin") == "02-01 02:30:00"
    assert due("0 30 3 * * *", "America/New_York") == "02-01 08:30:00"


@pytest.mark.parametrize(
    "pattern",
    ["x * * * * *", "* * * * *", "60 * * * * *", "* * * 0 * *", "5-1 * * * * *", "*/0 * * * * *",
     "0 0 0 31 2 *", "@every 0s", "@every soon", "@at soon", ""],
)  # fmt: skip
def test_a_pattern_that_can_never_be_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        due(pattern)
