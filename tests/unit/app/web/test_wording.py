from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.web import wording

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 KB"),
        (12_345, "12 KB"),
        (9_870_000, "9.9 MB"),
    ],
)
def test_sizes_are_said_in_the_largest_unit_that_fits(value: int | None, said: str) -> None:
    assert wording.size(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (59, "59 s"), (300, "5 min"), (3_600, "1 h"), (7_800, "2 h 10 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(
    ("per_second", "said"),
    [(12.4, "12 files/s"), (1, "1.0 files/s"), (0.2, "12 files/min"), (0.01, "0.6 files/min")],
)
def test_slow_work_is_measured_in_minutes(per_second: float, said: str) -> None:
    assert wording.speed(per_second, "files") == said


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=5), "5 hours ago"),
        (timedelta(days=1, hours=1), "yesterday"),
        (timedelta(days=30), "4 April 2026"),
    ],
)
def test_moments_are_said_by_their_distance(before: timedelta, said: str) -> None:
    assert wording.ago(NOW - before, NOW) == said


def test_one_is_not_many() -> None:
    assert [wording.counted(n, "file") for n in (0, 1, 2_000)] == ["0 files", "1 file", "2,000 files"]


def test_media_types_without_a_name_of_ours_are_said_by_their_last_part() -> None:
    assert wording.media("text/html; charset=utf-8") == "HTML"
    assert wording.media("application/x-tar") == "tar"
    assert wording.media(None) == "Unknown"


@pytest.mark.parametrize(
    ("score", "said"), [(0.71, "strong match"), (0.5, "good match"), (0.3, "related"), (-0.2, "weak match")]
)
def test_scores_have_words(score: float, said: str) -> None:
    assert wording.strength(score) == said


def test_a_map_without_figures_is_not_called_faithful() -> None:
    assert wording.trust({}) == "not measured"
    assert wording.trust({"trustworthiness": 0.97}) == "faithful map"


def test_every_stage_of_a_map_has_words() -> None:
    from typing import get_args

    from app.pipeline.projection.base import Stage

    assert set(get_args(Stage)) <= set(wording.STAGES)
