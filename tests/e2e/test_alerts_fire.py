"""The guide's seven alerts fire of what the product really exports while their fault is there.

A scrape before and one during each fault are recorded. promtool gets both as series: as it was, then 40
minutes in which the fault goes on as it was seen (counters grow each minute by what they grew between the
scrapes, gauges stay, what no longer answers is gone). Of what was recorded before it is silent.
"""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import nats
import psycopg2
import pytest
import yaml
from dramatiq import Message

from app.config import Settings
from app.container import build
from app.jobs.contracts import ExtractFile
from app.jobs.queue_depths import measure
from app.observability import metrics, server_metrics
from brokers import BrokerOptions
from brokers.jetstream.topology import ready_subject
from devstack import promtool
from tests.integration.broker.server import NatsServer
from tests.meta.test_alerts import rule_files
from tests.support import scrapes
from tests.support.app_processes import RunningApp
from tests.support.stack import run_apart

READY = ready_subject(BrokerOptions(), ExtractFile.queue)
MANY, CONNECTIONS = 600, 20
PENDING, IN_USE = "nats_consumer_pending", "database_connection_pool_in_use"
MINUTES = 40
Shot = dict[str, scrapes.Scrape]  # by process; without those that do not answer


@dataclass
class Recorder:
    """By alert: the scrapes before and during its fault."""

    app: RunningApp
    shots: dict[str, tuple[Shot, Shot]] = field(default_factory=dict)

    @contextmanager
    def fault(self, alert: str, *processes: str) -> Iterator[Callable[[], Shot]]:
        """Record before the block, and whenever the block calls what it gets; the last one counts."""
        before = self.shoot(processes)

        def during() -> Shot:
            self.shots[alert] = (before, self.shoot(processes))
            return self.shots[alert][1]

        yield during

    def shoot(self, processes: Sequence[str]) -> Shot:
        ports = self.app.health_ports
        urls = {
            name: f"http://127.0.0.1:{ports[name]}" if name in ports else self.app.base_url
            for name in processes
        }
        found = {name: _scrape(url) for name, url in urls.items()}
        return {name: scrape for name, scrape in found.items() if scrape}


def _scrape(url: str) -> scrapes.Scrape | None:
    try:
        return scrapes.read(httpx.get(f"{url}/metrics", timeout=30).text)
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
def recorded(
    running_app: RunningApp, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Shot, Shot]]:
    made = Recorder(running_app)
    # A process asks NATS for its numbers every 15 seconds, in which there is time for the others.
    with made.fault("StreamBacklog", "datasets") as shoot:
        files_cannot_be_read(made)
        with nobody_takes_messages(made):
            a_table_is_locked(made)
            the_database_is_away(made)
            the_api_is_killed(made)
            running_app.wait_for("the backlog", lambda: _largest(shoot()["datasets"], PENDING) > MANY * 0.9)
    the_disk_is_full(made, tmp_path_factory.mktemp("nats"))
    return made.shots


def files_cannot_be_read(made: Recorder) -> None:
    app, broken = made.app, b"%PDF-1.7\nthis is no document\n%%EOF"
    pile = app.pile("Alerts")
    with made.fault("WorkerJobsFail", "collections") as shoot:
        before = _failed(shoot()["collections"])  # other tests' runs fail, too
        app.upload(pile.ids["collection_id"], [("broken.pdf", broken)])
        app.wait_for("the failed run", lambda: _failed(shoot()["collections"]) > before)


def _failed(scrape: scrapes.Scrape) -> float:
    runs = scrape.samples["worker_jobs_total"]
    return sum(n for labels, n in runs if (labels["kind"], labels["status"]) == ("extract_file", "failed"))


@contextmanager
def nobody_takes_messages(made: Recorder) -> Iterator[None]:
    """The pool is frozen, and messages come in."""
    url = made.app.stack.environment["NATS_URL"]
    made.app.product.kill("collections", signal.SIGSTOP)
    try:
        run_apart(_send_strangers, url)
        yield
    finally:
        run_apart(_take_back, url)
        made.app.product.kill("collections", signal.SIGCONT)


def _largest(scrape: scrapes.Scrape, name: str) -> float:
    return max(n for _, n in scrape.samples[name])


async def _send_strangers(url: str) -> None:
    """Jobs that no row knows: a worker that had already asked for some puts them aside."""
    connection = await nats.connect(url)
    for _ in range(MANY):
        kwargs = {"job_id": str(uuid4()), "publication": 0}
        stranger: Message[Any] = Message(ExtractFile.queue, ExtractFile.kind, (), kwargs, {})
        await connection.publish(READY, stranger.encode())
    await connection.drain()


async def _take_back(url: str) -> None:
    connection = await nats.connect(url)
    await connection.jetstream().purge_stream("COLLECTION_TRANSFORMS", subject=READY)
    await connection.close()


def a_table_is_locked(made: Recorder) -> None:
    """So that more people wait for Postgres than there are connections, and all for longer than a second."""
    app = made.app
    somebody = psycopg2.connect(app.stack.environment["DATABASE_URL"])
    with made.fault("HighLatency", "web") as slow, made.fault("DatabasePoolExhausted", "web") as exhausted:
        with ThreadPoolExecutor(24) as people:
            somebody.cursor().execute("LOCK TABLE collections IN ACCESS EXCLUSIVE MODE")
            asked = [
                people.submit(httpx.get, f"{app.base_url}/api/collections", timeout=60) for _ in range(24)
            ]
            app.wait_for("the last connection", lambda: _largest(exhausted()["web"], IN_USE) == CONNECTIONS)
            somebody.cursor().execute("SELECT pg_sleep(1.1)")
            somebody.close()
        assert {each.result().status_code for each in asked} == {200}
        slow()


def the_database_is_away(made: Recorder) -> None:
    app = made.app
    with made.fault("HighErrorRate", "web") as shoot:
        app.stack.kill("postgres")
        try:
            assert {app.http.get("/api/collections").status_code for _ in range(5)} == {503}
            shoot()
        finally:
            app.stack.restart("postgres")
    app.wait_for("readiness", lambda: app.http.get("/health/ready").is_success)


def the_api_is_killed(made: Recorder) -> None:
    app = made.app
    with made.fault("ApiDown", "web", "datasets") as shoot:
        app.product.kill("web")
        app.wait_for("its end", lambda: "web" not in shoot())
    app.product.restart_dead()
    app.wait_for("web", lambda: _scrape(app.base_url) and app.http.get("/health/ready").is_success)


def the_disk_is_full(made: Recorder, folder: Path) -> None:
    """Of an account that may keep 2 MB; that of the running product has no limit."""
    config = folder / "nats.conf"
    config.write_text(
        "accounts { A { jetstream: {max_file: 2MB, max_mem: 1MB}, users: [{user: a, password: a}] } }\n"
        "no_auth_user: a\n"
    )
    server = NatsServer(folder / "store", "-c", str(config))
    server.start()
    container = build(
        Settings.from_env({"NATS_URL": server.url, "DATABASE_URL": "postgresql://nobody@/none"})
    )
    try:
        container.apply_topology(dry_run=False)
        before = _measured(container.broker)
        run_apart(_fill, server.url)
        made.shots["JetStreamDiskFull"] = (before, _measured(container.broker))
    finally:
        server_metrics.forget_nats()
        container.broker.close()
        server.stop()


def _measured(broker: Any) -> Shot:
    measure(broker)
    return {"web": scrapes.read(metrics.render()[0].decode())}


async def _fill(url: str) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    await stream.add_stream(name="FILL", subjects=["fill"])
    for _ in range(17):
        await stream.publish("fill", bytes(100_000))
    await connection.close()


ALERTS = (
    "ApiDown", "HighErrorRate", "HighLatency", "WorkerJobsFail", "DatabasePoolExhausted", "StreamBacklog",
    "JetStreamDiskFull",
)  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS)
def test_the_guides_alert_fires_while_its_fault_is_there_and_not_before(
    recorded: dict[str, tuple[Shot, Shot]], alert: str, tmp_path: Path
):
    before, during = recorded[alert]
    tool = promtool.find()
    assert tool, "run `python -m devstack.promtool`"
    groups = {"rule_files": [str(path) for path in rule_files()], "evaluation_interval": "1m"}
    tests = [_case(alert, before, before, fires=False), _case(alert, before, during, fires=True)]
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump(groups | {"tests": tests}))
    done = subprocess.run([tool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _case(alert: str, before: Shot, during: Shot, *, fires: bool) -> dict[str, Any]:
    name = f"SemanticExplorer{alert}"
    wanted = {asked.metric for asked in scrapes.asked_for() if asked.where.endswith(f": {name}")}
    firing = {"labels": "{}", "value": 1}
    return {
        "name": f"{name} {'during' if fires else 'before'}",
        "interval": "1m",
        "input_series": list(_series(wanted, before, during)),
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) > bool 0',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [firing] if fires else [],
            }
        ],
    }


def _series(wanted: set[str], before: Shot, during: Shot) -> Iterator[dict[str, str]]:
    for process in before:
        old, new = _values(before[process], wanted), _values(during.get(process), wanted)
        for key in old | new:
            name, labels = key
            text = ",".join(f'{label}="{value}"' for label, value in (*labels, ("instance", process)))
            yield {"series": f"{name}{{{text}}}", "values": _notation(name, old.get(key), new.get(key))}


def _values(scrape: scrapes.Scrape | None, wanted: set[str]) -> dict[Any, float]:
    samples = scrape.samples if scrape else {}
    return {(name, tuple(labels.items())): n for name in wanted for labels, n in samples.get(name, ())}


def _notation(name: str, old: float | None, new: float | None) -> str:
    if new is None:
        return f"{old}x2 stale"
    if name.endswith(("_total", "_bucket", "_count", "_sum")):
        return f"{old or 0}+{new - (old or 0)}x{MINUTES}"
    if math.isnan(new) or math.isinf(new):
        return " ".join([{True: "NaN", False: "Inf"}[math.isnan(new)]] * MINUTES)
    return f"{new}x{MINUTES}"
