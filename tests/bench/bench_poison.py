"""`make bench-poison`: how long healthy jobs wait while one poisonous message kills its workers.

Two command lines of two threads, each started again when it ends, as a cluster would. Healthy jobs of
10 ms come at a steady rate; from the fifth second on there is one poisonous message among them. Printed
per poison: seconds until it is a dead letter, deaths, and the wait from enqueue to start of the healthy
jobs, beside runs without poison, over all rounds. A run ends SECONDS= (8) after its poison is dead;
ROUNDS= (3) sets how often each is run, in an order that is shuffled each time, ONLY= one kind.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from brokers import JetStreamBroker, dead_letter, topology
from tests.bench.poison_actors import QUEUE, make_options
from tests.integration.broker import poisons
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import Workers, message, publish_raw

_RATE = 40.0  # healthy jobs per second
_POISON_AFTER_SECONDS = 5.0
_MOST_SECONDS = 90.0  # for one poison
_NONE = "none"
_KINDS = (
    *(_NONE, "leave", "segfault", "memory_bomb", "hold_the_lock", "deep_recursion"),
    *("undecodable", "nobody_knows", "grow", "future_version", "unpicklable"),
)


@dataclass
class Measured:
    """One run: seconds until the dead letter (None: not within the run), deaths, waits in seconds."""

    dead_after: float | None
    deaths: int
    waits: list[float]


def _setting(name: str, default: str) -> str:
    return os.environ.get(name, default)  # noqa: TID251


def main() -> None:
    seconds, rounds = float(_setting("SECONDS", "8")), int(_setting("ROUNDS", "3"))
    kinds = [kind for kind in _KINDS if _setting("ONLY", kind) == kind]
    found: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in random.sample(kinds, len(kinds)):
            found[kind].append(_measure(kind, seconds))
            print(_row(kind, found[kind][-1:]), file=sys.stderr, flush=True)
    print("| poison | dead letter after s | deaths | p50 ms | p95 ms | p99 ms | most ms | healthy jobs |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, runs in found.items():
        print(_row(kind, runs))


def _row(kind: str, runs: list[Measured]) -> str:
    waits = [wait for run in runs for wait in run.waits]
    percentiles = statistics.quantiles(waits, n=100)
    figures = [percentiles[49], percentiles[94], percentiles[98], max(waits)]
    shown = " | ".join(f"{1000 * figure:.1f}" for figure in figures)
    dead = ", ".join("never" if run.dead_after is None else f"{run.dead_after:.1f}" for run in runs)
    deaths = ", ".join(str(run.deaths) for run in runs)
    return f"| {kind} | {'-' if kind == _NONE else dead} | {deaths} | {shown} | {len(waits)} |"


def _measure(kind: str, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        configuration = Path(folder) / "nats.conf"
        configuration.write_text(f"max_payload: {poisons.MAX_PAYLOAD_BYTES}\n")
        server = NatsServer(Path(folder) / "nats", "-c", str(configuration))
        server.start()
        workers, stopping = Workers(server.url, Path(folder) / "history"), threading.Event()
        try:
            return _run(kind, seconds, server, workers, stopping)
        finally:
            stopping.set()
            time.sleep(1)
            workers.stop_all()
            server.kill()


def _supervise(workers: Workers, stopping: threading.Event) -> None:
    mine: subprocess.Popen[bytes] | None = None
    while not stopping.wait(0.05):
        if mine is None or mine.poll() is not None:
            mine = workers.start(threads=2, module="tests.bench.poison_actors")


def _run(
    kind: str, seconds: float, server: NatsServer, workers: Workers, stopping: threading.Event
) -> Measured:
    options = make_options(server.url)
    topology.apply(options, [QUEUE])
    for _ in range(2):
        threading.Thread(target=_supervise, args=(workers, stopping), daemon=True).start()
    while workers.count("boot") < 2:
        time.sleep(0.05)
    broker = JetStreamBroker(options, [QUEUE])
    sent, dead_after = _produce(broker, kind, seconds, workers)
    broker.join(QUEUE.name, timeout=60_000)
    boots = workers.count("boot")
    broker.close()
    return Measured(dead_after, boots - 2, _waits(workers, sent))


def _produce(
    broker: JetStreamBroker, kind: str, seconds: float, workers: Workers
) -> tuple[dict[str, float], float | None]:
    """When each healthy job was sent, and how long after its enqueue the poison was dead."""
    sent: dict[str, float] = {}
    begin = time.time()
    poisoned, end, dead_after = 0.0, begin + _POISON_AFTER_SECONDS + _MOST_SECONDS, None
    for number in itertools.count():
        time.sleep(max(0.0, begin + number / _RATE - time.time()))
        now = time.time()
        if now > end:
            return sent, dead_after
        if not poisoned and now - begin > _POISON_AFTER_SECONDS:
            _poison(broker, kind)
            poisoned = time.time()
            end = poisoned + (seconds if kind == _NONE else _MOST_SECONDS)
        if poisoned and dead_after is None and number % 10 == 0:
            poisons.kill_the_greedy(workers)
            if dead_letter.list_dead(broker, 1):
                dead_after = time.time() - poisoned
                end = time.time() + seconds
        sent[f"h{number}"] = time.time()
        broker.enqueue(message("work", f"h{number}", 0.01, queue=QUEUE.name))
    return sent, dead_after


def _poison(broker: JetStreamBroker, kind: str) -> None:
    if kind == "undecodable":
        publish_raw(broker, b"\xff\xfe\x00", queue=QUEUE.name)
    elif kind == "future_version":
        body = message("work", queue=QUEUE.name).encode()
        publish_raw(broker, body, {"Dramatiq-Format": "99"}, queue=QUEUE.name)
    elif kind == "grow":
        broker.enqueue(poisons.grown(QUEUE.name))
    elif kind != _NONE:
        broker.enqueue(message(kind, kind, queue=QUEUE.name))


def _waits(workers: Workers, sent: dict[str, float]) -> list[float]:
    """Seconds from enqueue to the first start, of every healthy job."""
    started: dict[str, float] = {}
    for line in workers.lines():
        if line[0] == "start" and line[1] in sent:
            started.setdefault(line[1], float(line[-1]))
    return [started[name] - at for name, at in sent.items() if name in started]


if __name__ == "__main__":
    main()
