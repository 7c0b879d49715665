"""`make bench-api`: pages over a million chunks and ten thousand collections; ten calls beside bare Flask.

Both run under gunicorn with the settings of the Procfile, on one database, in one run, in a shuffled order;
the bare routes send the statements that the product sends. Both are measured twice: each process on one CPU
(WEB_CPU_AFFINITY), and wherever the system sends its threads. Losses are printed, not hidden.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from app.factory import create_app
from tests.bench import report as reports
from tests.bench.api.population import Filled, populate
from tests.bench.api.questions import calls, pages, slowest, statements
from tests.bench.bed import Bed, bed
from tests.bench.report import Report, arguments, spread
from tests.support.app_processes import free_port

PAGE = reports.ROOT / "docs" / "benchmarks" / "api.md"
_MOST_MS, _LEAST_RATIO = 100, 0.6
_GUNICORN = ("--worker-class", "gthread", "--threads", "32", "--timeout", "120", "--keep-alive", "75")


@dataclass
class Figures:
    """What one call did on one side, a value per round."""

    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, print, and write the page where asked."""
    reports.PAGE = PAGE
    options = arguments(
        __doc__, chunks=1_000_000, collections=10_000, rounds=3, seconds=2, connections=8, looks=31
    )
    report = Report("api", options)
    with bed() as made:
        began = time.perf_counter()
        filled = populate(made, collections=options.collections, chunks=options.chunks)
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        with ExitStack() as running:
            _pages(report, made, filled, _serve(running, made, "pages", "wsgi:app"), options.looks)
        for affinity in (True, False):
            with ExitStack() as running:
                port = _serve(running, made, f"web {affinity}", "wsgi:app", affinity=affinity)
                bare = _serve_bare(running, made, filled, affinity=affinity)
                where = (
                    "each server on one CPU (`WEB_CPU_AFFINITY=true`)" if affinity else "servers on any CPU"
                )
                _calls(report, where, filled, (port, bare), options)
    return report.end()


def _serve(running: ExitStack, made: Bed, name: str, target: str, *, affinity: bool = False) -> int:
    port = free_port()
    environment = (f"PORT={port}", f"WEB_CPU_AFFINITY={affinity}")
    # Ours reads gunicorn.conf.py besides: hooks, a longer request line, and the same keep-alive.
    options = ("--bind", f"127.0.0.1:{port}", *(() if target == "wsgi:app" else ("--config", os.devnull)))
    process = running.enter_context(
        made.process(
            name, "env", *environment, sys.executable, "-m", "gunicorn", target, *options, *_GUNICORN
        )
    )
    made.wait(name, lambda: "Booting worker" in made.log(name).read_text(), process)
    return port


def _serve_bare(running: ExitStack, made: Bed, filled: Filled, *, affinity: bool) -> int:
    client, engine = create_app(made.container).test_client(), made.container.database.engine
    client.environ_base["SERVER_NAME"] = "127.0.0.1"
    sent = [statements(client, engine, path) for path in calls(filled).values()]
    file = made.folder / "statements.json"
    file.write_text(json.dumps(sent))
    url = made.container.settings.database_url_psycopg2
    target = f"tests.bench.api.bare:make_app({url!r}, {str(file)!r}, {affinity})"
    return _serve(running, made, f"bare {affinity}", target, affinity=affinity)


def _pages(report: Report, made: Bed, filled: Filled, port: int, looks: int) -> None:
    client, engine = create_app(made.container).test_client(), made.container.database.engine
    rows, plans = [], []
    for name, path in pages(filled).items():
        times = [_look(port, path) for _ in range(looks)]
        verdict = "" if statistics.median(times) < _MOST_MS else f"over {_MOST_MS} ms"
        rows.append([name, f"`{path}`", spread(times), verdict])
        print(*rows[-1], flush=True)
        sent = statements(client, engine, path)
        plans.append(f"**{name}**, of {len(sent)} statements\n\n```\n{slowest(engine, sent)}\n```")
    report.table("Pages, ms over HTTP: median (least-most)", ["page", "path", "ms", "aim"], rows)
    report.say("The plan of each page's slowest statement, by `EXPLAIN (ANALYZE, BUFFERS)`:")
    for plan in plans:
        report.say(plan)


def _look(port: int, path: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


def _calls(report: Report, where: str, filled: Filled, ports: tuple[int, int], options: Any) -> None:
    names = list(calls(filled))
    measured: defaultdict[tuple[str, bool], Figures] = defaultdict(Figures)
    for _ in range(options.rounds):
        order = [(name, is_bare) for name in names for is_bare in (False, True)]
        random.shuffle(order)
        for name, is_bare in order:
            path = f"/{names.index(name)}" if is_bare else calls(filled)[name]
            _measure(measured[name, is_bare], ports[is_bare], path, options)
    rows = [_row(name, measured[name, False], measured[name, True]) for name in names]
    report.table(
        f"Requests per second and slowest hundredth, {where}, {options.connections} connections, "
        "median of the rounds",
        ["call", "ours /s", "bare /s", "ratio", "ours p99 ms", "bare p99 ms", "aim"],
        rows,
    )


def _measure(figures: Figures, port: int, path: str, options: Any) -> None:
    command = [
        sys.executable, "-m", "tests.bench.api.client",
        str(port), path, str(options.connections), str(options.seconds),
    ]  # fmt: skip
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    figures.rates.append(said["answers"] / said["seconds"])
    figures.p99.append(statistics.quantiles(said["milliseconds"], n=100)[98])


def _row(name: str, ours: Figures, bare: Figures) -> list[str]:
    rates = statistics.median(ours.rates), statistics.median(bare.rates)
    ratio = rates[0] / rates[1]
    row = [
        name,
        f"{rates[0]:,.0f}",
        f"{rates[1]:,.0f}",
        f"{ratio:.2f}",
        f"{statistics.median(ours.p99):.0f}",
        f"{statistics.median(bare.p99):.0f}",
        "" if ratio >= _LEAST_RATIO else f"lost: under {_LEAST_RATIO}",
    ]
    print(*row, flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
