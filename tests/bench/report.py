"""What the pipeline's benches share: options, spreads, and a section each in docs/benchmarks/pipeline.md."""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "pipeline.md"


def arguments(doc: str | None, **defaults: int | str) -> argparse.Namespace:
    """The options of a bench: one of the same type for each of `defaults`, and --write."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"default {value or 'none'}")
    parser.add_argument("--write", action="store_true", help=f"put the result into {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median (least-most)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine() -> str:
    """When and where."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}"


class Report:
    """One bench's section; `name` is that of its command, `make bench-{name}`."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._name = name
        self._options = options
        self._parts: list[str] = []

    def say(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(text)

    def table(self, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A markdown table under a line that says what it shows."""
        lines = [f"{caption}:", "", _line(head), _line(["---"] * len(head)), *map(_line, rows)]
        self._parts.append("\n".join(lines))

    def end(self) -> int:
        """Print the section, and put it into the page where --write says so; the exit status."""
        told = {name: value for name, value in vars(self._options).items() if value != ""}.items()
        said = " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in told if name != "write" and value != ""
        )
        text = "\n\n".join([f'`make bench-{self._name} ARGS="{said}"`, {machine()}.', *self._parts])
        print(text)
        if self._options.write:
            put(self._name, text)
            print(f"written to {PAGE.relative_to(ROOT)}")
        return 0


def put(name: str, text: str) -> None:
    """Replace what stands between the marks of this section in the page."""
    begin, end = f"<!-- bench-{name} -->", f"<!-- /bench-{name} -->"
    page = PAGE.read_text()
    if begin not in page:
        raise SystemExit(f"{PAGE.name} has no section for {name}: add {begin} and {end} where it shall stand")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def peak_bytes(status: Path) -> int:
    """The most memory that a process ever had resident, from its `/proc/…/status`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    if found is None:
        raise SystemExit(f"{status} has no VmHWM: this bench needs Linux")
    return int(found[1]) * 1024
