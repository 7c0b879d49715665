"""The broker's failure table names tests, and each name is one test's."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+)(?:…|\[[^`]*|)`")
DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)


def test_each_name_in_the_failure_table_is_that_of_one_test() -> None:
    files = [
        path for kind in ("unit", "contract", "integration") for path in (ROOT / "tests" / kind).rglob("*.py")
    ]
    tests = [name for path in files for name in DEFINED.findall(path.read_text())]
    named = NAMED.findall((ROOT / "brokers" / "README.md").read_text())
    assert len(named) > 80
    meant = {name: [test for test in tests if test.startswith(name)] for name in named}
    assert {name: found for name, found in meant.items() if len(found) != 1} == {}
