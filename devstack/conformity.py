"""`make conformity`: runs the tests that show the points of the deployment guide, and writes the table.

tests/conformity.txt binds each point to tests by their names. A point without a test, or with one that does
not pass, is listed as such and makes the command fail. With ids (`make conformity POINTS="EV03 BK"`, a group
by its letters) only their tests are run, and only their rows are written anew: the others keep their results.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from devstack.product import ROOT

TABLE = ROOT / "tests" / "conformity.txt"
PAGE = ROOT / "docs" / "conformity.md"
_SECONDS = 3600
_TRAP = "T0", "T1", "T2", "T3"  # TR and TS are of the guide
_ROW = re.compile(r"(?m)^\| (\w+) \| .*? \| (.*?) \| \**([a-z ]+?)\** \|$")
Outcomes = Mapping[str, Sequence[str]]  # of a test or of one case of it: passed, failed, skipped


@dataclass(frozen=True)
class Point:
    """One point of the guide."""

    id: str
    requirement: str
    tests: tuple[str, ...]

    def result(self, outcomes: Outcomes) -> str:
        """passed; failed; skipped when a test did not run; no test."""
        if not self.tests:
            return "no test"
        found = {one for test in self.tests for one in outcomes.get(test) or ["skipped"]}
        return next((worst for worst in ("failed", "skipped") if worst in found), "passed")


def points(text: str | None = None) -> list[Point]:
    """The table; raises ValueError for a line that has not three parts."""
    lines = (TABLE.read_text() if text is None else text).splitlines()
    return [_point(line) for line in lines if line.strip() and not line.startswith("#")]


def _point(line: str) -> Point:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) != 3:  # noqa: PLR2004 id, requirement, tests
        raise ValueError(f"not `id | requirement | tests`: {line}")
    return Point(parts[0], parts[1], tuple(f"test_{name}" for name in parts[2].split()))


def places() -> dict[str, list[Path]]:
    """Test function to the files that define it."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in re.findall(r"(?m)^def (test_\w+)", path.read_text()):
            found.setdefault(name, []).append(path)
    return found


def node_ids(table: Sequence[Point]) -> list[str]:
    """What to give to pytest; raises LookupError for a test that is not there or there twice."""
    known = places()
    nodes = set()
    for test in {test for point in table for test in point.tests}:
        paths = known.get(test.partition("[")[0], [])
        if len(paths) != 1:
            raise LookupError(f"{test} is in {len(paths)} files; tests/conformity.txt needs exactly one")
        nodes.add(f"{paths[0].relative_to(ROOT)}::{test}")
    return sorted(nodes)


def run(nodes: Sequence[str]) -> Outcomes:
    """Run the tests; a name without [case] has the outcomes of all its cases."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", f"--junitxml={report}", *nodes]
        subprocess.run(command, cwd=ROOT, check=False, timeout=_SECONDS)
        return read(report.read_text())


def read(report: str) -> Outcomes:
    """Outcomes by test and by case from pytest's XML, which our own process wrote."""
    outcomes: dict[str, list[str]] = {}
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = case.attrib["name"]
        for key in {name, name.partition("[")[0]}:
            outcomes.setdefault(key, []).append(outcome)
    return outcomes


def chosen(table: Sequence[Point], ids: Sequence[str]) -> list[Point]:
    """The points with these ids or of these groups, all where none is named; raises LookupError."""
    unknown = [one for one in ids if not any(_is_meant(point, one) for point in table)]
    if unknown:
        raise LookupError(f"no point or group {', '.join(unknown)} in tests/conformity.txt")
    return [point for point in table if not ids or any(_is_meant(point, one) for one in ids)]


def _is_meant(point: Point, one: str) -> bool:
    return one in {point.id, point.id.rstrip("0123456789")}


def earlier(table: Sequence[Point], text: str) -> dict[str, str]:
    """What a page says of each point; "not run" where it has not these tests."""
    rows = {one: (tests, result) for one, tests, result in _ROW.findall(text)}
    found = ((point, rows.get(point.id, ("", ""))) for point in table)
    return {point.id: result if tests == _named(point) else "not run" for point, (tests, result) in found}


def page(table: Sequence[Point], results: Mapping[str, str]) -> str:
    """docs/conformity.md, of results by id."""
    counts = Counter(results[point.id] for point in table)
    summary = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    traps = sum(point.id.startswith(_TRAP) for point in table)
    rows = "\n".join(_row(point, results[point.id]) for point in table)
    return (
        "<!-- Generated by `make conformity` from tests/conformity.txt. -->\n# Conformity\n\n"
        f"The {len(table) - traps} points of the deployment guide, the {traps} readings of what it "
        f"leaves open or says in two ways (T), and the tests that show them: {summary}.\n\n"
        f"| id | requirement | test | result |\n|---|---|---|---|\n{rows}\n"
    )


def _row(point: Point, result: str) -> str:
    shown = result if result == "passed" else f"**{result}**"
    return f"| {point.id} | {point.requirement} | {_named(point)} | {shown} |"


def _named(point: Point) -> str:
    return "<br>".join(f"`{test.removeprefix('test_')}`" for test in point.tests)


def main(ids: Sequence[str]) -> int:
    """Run, write, and say what is missing; 1 if anything is."""
    table = points()
    wanted = chosen(table, ids)
    outcomes = run(node_ids(wanted))
    before = PAGE.read_text() if PAGE.exists() else ""
    results = earlier(table, before) | {point.id: point.result(outcomes) for point in wanted}
    PAGE.write_text(page(table, results))
    missing = [point for point in wanted if results[point.id] != "passed"]
    for point in missing:
        print(f"{point.id}: {results[point.id]}: {point.requirement}")
    print(f"{len(wanted) - len(missing)} of {len(wanted)} points are shown by a passing test")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
