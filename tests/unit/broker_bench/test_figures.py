from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.broker import __main__ as bench
from tests.bench.broker.figures import (
    Results,
    Spread,
    lost_and_doubled,
    number,
    of,
    percentile,
    ratio,
    spread,
    total,
)
from tests.bench.broker.measure import Plan
from tests.bench.broker.report import losses, report, table
from tests.bench.broker.report import plain as column
from tests.bench.broker.systems import SYSTEMS, chosen
from tests.bench.broker.targets import TARGETS, Target, target_table, verdict

RESULTS: Results = {
    "ours-r1": [{"noop_1x8": 800.0}, {"noop_1x8": 1000.0}, {}, {"noop_1x8": 900.0}],
    "redis": [{"noop_1x8": 200.0}, {"noop_1x8": 500.0}, {"noop_1x8": 100.0}, {"noop_1x8": 300.0}],
}


def test_a_spread_is_the_median_with_least_and_most_of_what_was_measured():
    assert of(RESULTS, "ours-r1", "noop_1x8") == Spread(900, 800, 1000)
    assert str(of(RESULTS, "redis", "noop_1x8")) == "250 (100-500)"
    assert spread([None]) is None
    assert of(RESULTS, "celery", "noop_1x8") is None


def test_a_ratio_compares_the_same_round_and_skips_rounds_that_failed():
    assert ratio(RESULTS, "ours-r1", "redis", "noop_1x8") == Spread(3, 2, 4)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.734, "0.73"), (52.13, "52.1"), (100.4, "100"), (9812.3, "9,812")]
)
def test_a_number_has_about_three_digits(value: float, text: str):
    assert number(value) == text


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7


def test_jobs_are_lost_or_doubled_by_their_ids_alone():
    assert lost_and_doubled(range(1, 6), [1, 2, 2, 4, 99, 99]) == (2, 1)


def test_kills_are_summed_over_the_rounds_that_had_them():
    results = {"redis": [{"worker_killed_lost": 3.0, "fault_jobs": 10.0}, {"noop_1x8": 1.0}]}
    assert total(results, "redis", "worker_killed_lost") == 3
    assert total(results, "redis", "server_killed_lost") is None


def test_a_table_has_a_row_for_each_system_that_ran_and_dashes_for_what_it_lacks():
    lines = table(RESULTS, [column("1 x 8", "noop_1x8"), column("batch", "enqueue_batch")])
    assert lines == [
        "| system | a confirmed job is in | 1 x 8 | batch |",
        "|---|---|---|---|",
        "| ours, R1 (3 of 4 rounds) | file, fsync every 2 min | 900 (800-1,000) | - |",
        "| Dramatiq + Redis | memory only | 250 (100-500) | - |",
    ]


def test_a_system_without_such_figures_has_no_row_unless_it_failed_altogether():
    results: Results = {**RESULTS, "celery": [{"enqueue_batch": 1.0}], "rabbitmq": [{}]}
    lines = table(results, [column("1 x 8", "noop_1x8")])
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| ours, R1 (3 of 4 rounds)",
        "| Dramatiq + Redis",
        "| Dramatiq + RabbitMQ (0 of 1 rounds)",
    ]
    assert table(results, [column("idle", "idle_percent")], only="ours") == []


def test_a_target_is_met_missed_or_not_measured():
    multiple = Target("", "ours-r1", "noop_1x8", 3.0, "redis")
    assert verdict(RESULTS, multiple) == ("3.00 (2.00-4.00)x", "met")
    assert verdict(RESULTS, Target("", "ours-r1", "noop_1x8", 3.1, "redis"))[1] == "**missed**"
    assert verdict(RESULTS, Target("", "ours-r1", "noop_1x8", 899, at_most=True))[1] == "**missed**"
    assert verdict(RESULTS, Target("", "ours-r1", "half_p50_ms", 5))[1] == "not measured"


def test_every_target_is_in_the_table_and_names_systems_that_exist():
    keys = {system.key for system in SYSTEMS}
    assert {target.system for target in TARGETS} | {t.rival for t in TARGETS if t.rival} <= keys
    assert len(target_table(RESULTS)) == 2 + len(TARGETS)


def test_losses_are_said_and_only_losses():
    behind = {
        "ours-r1": [{"noop_1x8": 90.0, "idle_percent": 2.0}],
        "redis": [{"noop_1x8": 100.0, "idle_percent": 1.0}],
    }
    assert [line.split(":")[0] for line in losses(behind)] == [
        "- completed no-op jobs/s, 1 x 8",
        "- processor time of an idle worker",
    ]
    assert losses(RESULTS) == ["- Nowhere beyond 3 %."]


def test_a_report_is_made_of_whatever_was_measured():
    page = report(RESULTS, "# Head\n", ["a note"])
    assert page.startswith("# Head")
    assert "- Note: a note" in page
    assert page.count("| ours, R1 (3 of 4 rounds) |") == 2


def test_an_unknown_system_is_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match="ours-r1, ours-r1-always"):
        chosen("ours-r1,kafka")
    assert [system.key for system in chosen("redis, ours-r1")] == ["ours-r1", "redis"]


def test_a_round_that_fails_is_measured_once_more_and_every_failure_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    places = list[str]()

    def measure(system: Any, folder: Path, *_: object, **__: object) -> dict[str, float]:
        places.append(folder.name)
        if system.key == "redis" or folder.name == "0-ours-r1":
            raise RuntimeError("no leader")
        return {"noop_1x8": 1.0}

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "calibrated_rounds", lambda: 1)
    results, failures = bench.run(chosen("ours-r1,redis"), tmp_path, Plan(rounds=2))
    assert results == {"ours-r1": [{"noop_1x8": 1.0}] * 2, "redis": [{}, {}]}
    assert len(places) == len(set(places)) == 7
    assert sorted(failures) == sorted(
        ["ours, R1, round 1: RuntimeError: no leader"]
        + [f"Dramatiq + Redis, round {number}: RuntimeError: no leader" for number in (1, 1, 2, 2)]
    )
