"""The table of the deployment guide's points: whole, bound to tests that exist, and shown as it is."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from devstack import conformity
from devstack.conformity import Point

pytestmark = pytest.mark.meta
GROUPS = {
    "IN": 9,
    "EN": 17,
    "SE": 9,
    "ST": 5,
    "PG": 8,
    "NA": 5,
    "QD": 2,
    "DX": 4,
    "AP": 16,
    "WC": 6,
    "WD": 6,
    "WV": 8,
    "OB": 4,
    "NP": 5,
    "SC": 8,
    "EV": 11,
    "EW": 4,
    "EZ": 5,
    "HE": 7,
    "PR": 5,
    "GS": 6,
    "ME": 11,
    "LG": 9,
    "TR": 6,
    "DA": 5,
    "SM": 6,
    "CO": 5,
    "CT": 4,
    "AL": 7,
    "BK": 4,
    "AU": 4,
    "CP": 3,
    "TS": 10,
    "T": 35,
}


def test_every_point_of_the_guide_is_in_the_table_once():
    expected = [f"{group}{number:02}" for group, count in GROUPS.items() for number in range(1, count + 1)]
    assert [point.id for point in conformity.points()] == expected
    assert len(expected) == 224 + GROUPS["T"]


def test_every_point_names_tests_that_exist():
    assert conformity.node_ids(conformity.points())


def test_the_page_has_the_points_and_tests_of_the_table():
    rows = re.findall(
        r"(?m)^\| ([A-Z]{1,2}\d\d) \| (.*?) \| (.*?) \| \**([a-z ]+)\** \|$", conformity.PAGE.read_text()
    )
    shown = [(one, said, tuple(re.findall(r"`([^`]+)`", tests))) for one, said, tests, _ in rows]
    assert shown == [
        (point.id, point.requirement, tuple(test.removeprefix("test_") for test in point.tests))
        for point in conformity.points()
    ], "run `make conformity`"


def test_the_pages_summary_counts_its_rows():
    text = conformity.PAGE.read_text()
    results = Counter(re.findall(r"(?m)^\| [A-Z]{1,2}\d\d .* \| \**([a-z ]+?)\** \|$", text))
    for result, count in results.items():
        assert f"{count} {result}" in text


REPORT = """<testsuites><testsuite>
<testcase name="test_a[x]"/><testcase name="test_a[y]"><failure/></testcase>
<testcase name="test_b"><skipped/></testcase><testcase name="test_c"/>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("tests", "result"),
    [
        (("test_c",), "passed"),
        (("test_a[x]",), "passed"),
        (("test_a",), "failed"),
        (("test_c", "test_a[y]"), "failed"),
        (("test_c", "test_b"), "skipped"),
        (("test_gone",), "skipped"),
        ((), "no test"),
    ],
)
def test_a_point_has_passed_only_when_all_its_tests_did(tests: tuple[str, ...], result: str):
    assert Point("XX01", "said", tests).result(conformity.read(REPORT)) == result


def test_a_name_that_two_files_have_is_refused():
    with pytest.raises(LookupError, match="is in 0 files"):
        conformity.node_ids([Point("XX01", "said", ("test_that_is_not_there",))])


def test_a_line_that_is_no_point_is_refused():
    with pytest.raises(ValueError, match="not `id"):
        conformity.points("XX01 | said")


POINTS = [Point("EV01", "a", ("test_a",)), Point("EV02", "b", ("test_b[x]",)), Point("T01", "c", ("test_c",))]


def test_some_points_are_run_by_their_ids_or_their_group():
    assert conformity.chosen(POINTS, []) == POINTS
    assert conformity.chosen(POINTS, ["EV02", "T"]) == POINTS[1:]
    with pytest.raises(LookupError, match="no point or group E, EV03"):
        conformity.chosen(POINTS, ["EV", "E", "EV03"])


def test_what_was_not_run_keeps_its_result_unless_its_tests_are_others():
    text = conformity.page(POINTS, {"EV01": "passed", "EV02": "failed", "T01": "passed"})
    assert "The 2 points of the deployment guide, the 1 readings" in text
    assert "1 failed, 2 passed" in text
    changed = [POINTS[0], POINTS[1], Point("T01", "c", ("test_c", "test_d"))]
    assert conformity.earlier(changed, text) == {"EV01": "passed", "EV02": "failed", "T01": "not run"}
    assert conformity.page(POINTS, conformity.earlier(POINTS, text)) == text
