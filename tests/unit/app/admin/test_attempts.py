from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.admin.attempts import attempts_of

BEGUN = 1_760_000_000.25
FULL = {
    "attempt": 1,
    "worker": "w:1",
    "version": "1.2.0",
    "waited_seconds": 4.5,
    "started_at": BEGUN,
    "ended_at": BEGUN + 8,
    "error": "ProviderAwayError: away",
    "next_delay_seconds": 30.0,
}


def test_an_attempt_tells_its_worker_release_wait_run_error_and_what_came_next():
    first, last = attempts_of([FULL, {**FULL, "attempt": 2, "next_delay_seconds": None}])
    assert (first.number, first.worker, first.version, first.error) == (
        1, "w:1", "1.2.0", "ProviderAwayError: away"
    )  # fmt: skip
    assert (first.waited, first.ran, first.next_delay) == (4.5, 8.0, 30.0)
    assert first.started_at == datetime.fromtimestamp(BEGUN, UTC)
    assert (first.is_last, last.is_last) == (False, True)


def test_what_an_older_release_did_not_write_is_unknown():
    (old,) = attempts_of([{"attempt": 3, "worker": "w:1", "started_at": BEGUN, "error": None}])
    assert (old.number, old.version, old.waited, old.ran, old.next_delay) == (3, None, None, None, None)


def test_the_last_attempt_has_no_next_one_whatever_it_says():
    assert attempts_of([FULL])[0].next_delay is None


@pytest.mark.parametrize("nonsense", [[1], {"a": 1}, "soon", True, 1e300, float("nan"), None, ""])
def test_nonsense_in_a_history_counts_as_unknown(nonsense: Any):
    first, _ = attempts_of([dict.fromkeys(FULL, nonsense), FULL])
    assert first.number == 1
    assert first.number is not True
    assert (first.waited, first.ran, first.next_delay) == (None, None, None)


def test_spans_of_clocks_that_went_back_are_unknown():
    back = {**FULL, "ended_at": BEGUN - 1, "waited_seconds": -1, "next_delay_seconds": -1}
    first, _ = attempts_of([back, FULL])
    assert (first.waited, first.ran, first.next_delay) == (None, None, None)


def test_moments_are_read_as_seconds_and_as_text():
    (one,) = attempts_of([{"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:02"}])
    assert one.ran == 2
