"""How many series a process exports, and what becomes of them when processes come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
MOST_SERIES = 5000

MANY_ROUTES = """
from flask import Flask
from app.observability import http_metrics, metrics, security_metrics, server_metrics, job_metrics, calls
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import POOLS
from brokers import DeadReason

app = Flask("many")
for number in range(200):
    app.add_url_rule(f"/r{number}/<key>", f"r{number}", lambda key: (key, int(key)), methods=["GET", "POST"])
http_metrics.install(app)
client = app.test_client()
for number in range(200):
    for status in ("200", "404", "503"):
        client.open(f"/r{number}/{status}", method="POST" if number % 2 else "GET")
before = metrics.render()[0].count(b"\\n")
for number in range(300):
    client.get(f"/guess{number}")
    client.open("/guess", method=f"VERB{number}")
after = metrics.render()[0].count(b"\\n")
server_metrics.expect_queues(pool.queue for pool in POOLS.values())
security_metrics.set_secrets(dict.fromkeys(("a", "b", "unknown"), 1))
for number in range(4):
    server_metrics.tokens_used(f"n{number}", 1, 1)
for pool in POOLS.values():
    job_metrics.expect_letters(pool.name, DeadReason)
    job_metrics.waited(pool.name, 1)
    server_metrics.set_consumer(pool.stream, pool.queue, pending=1, ack_pending=1, redelivered=1, scheduled=1)
for kind in CONTRACTS:
    for status in ("success", "failed", "cancelled", "interrupted", "put_off"):
        metrics.observe_job("pool", kind, status, 1.0)
for system, names in {"s3": 12, "qdrant": 14, "provider": 4}.items():
    for number in range(names):
        with calls.call(system, f"n{number}") as made:
            pass
        with calls.call(system, f"n{number}") as made:
            made.status = "failed"
lines = metrics.render()[0].decode().splitlines()
series = [line for line in lines if not line.startswith("#")]
of_routes = sum(line.startswith("http_") for line in series)
of_runs = sum(line.startswith("worker_") for line in series)
print(after - before, len(series) - of_runs, len(series) - of_routes)
"""


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_with_200_routes_stays_within_its_budget_of_series_whatever_is_asked():
    added_by_strangers, of_web, of_worker = map(int, run(MANY_ROUTES).split())
    assert added_by_strangers <= 40  # two methods on one path: a histogram each, a few statuses
    assert 3000 < of_web < MOST_SERIES
    assert 1000 < of_worker < MOST_SERIES


# As gunicorn's processes do it: a child counts and dies, its parent is told, another child answers.
SHARED = """
import json, os, runpy, types
from app.observability import metrics

hooks = runpy.run_path("gunicorn.conf.py")
seen = []

def scrape():
    lines = sorted(metrics.render()[0].decode().splitlines())
    return [line for line in lines if line.startswith(("worker_jobs_total{", "sse_connections_active"))]

def child():
    pid = os.fork()
    if pid == 0:
        metrics.observe_job("p", "k", "success", 1)
        metrics.SSE_CONNECTIONS.inc()
        os._exit(0)
    os.waitpid(pid, 0)
    return types.SimpleNamespace(pid=pid)

hooks["on_starting"](types.SimpleNamespace(cfg=types.SimpleNamespace(workers=1)))
first, second = child(), child()
seen.append(scrape())
hooks["child_exit"](None, first)
seen.append(scrape())
hooks["on_starting"](types.SimpleNamespace(cfg=types.SimpleNamespace(workers=1)))
seen.append(scrape())
print(json.dumps(seen))
"""


def test_what_dead_processes_counted_stays_and_what_they_had_open_does_not(tmp_path: Path):
    (tmp_path / "counter_1.db").write_bytes(b"")  # of an earlier life of the container
    seen: list[Any] = json.loads(run(SHARED, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)))
    counted = 'worker_jobs_total{kind="k",status="success",worker="p"} 2.0'
    assert seen[0] == ["sse_connections_active 2.0", counted]
    assert seen[1] == ["sse_connections_active 1.0", counted]
    assert seen[2] == []
