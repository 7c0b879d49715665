"""`make bench-poison`: how long healthy jobs wait while one poisonous message kills its workers.

Two command lines of two threads, each started again when it ends, as a cluster would. Healthy jobs of
10 ms come at a steady rate; from the fifth second on there is one poisonous message among them. Printed
per poison: seconds until it is a dead letter, deaths, and the wait from enqueue to start of the healthy
jobs, beside a run without poison. SECONDS= sets the length of a run (60).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from brokers import JetStreamBroker, dead_letter, topology
from tests.bench.poison_actors import QUEUE, make_options
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import Workers, message

_RATE = 40.0  # healthy jobs per second
_POISON_AFTER_SECONDS = 5.0
_KINDS = (None, "leave", "segfault", "deep_recursion", "hold_the_lock")


def main() -> None:
    seconds = float(os.environ.get("SECONDS", "60"))  # noqa: TID251
    print("| poison | dead letter after s | deaths | p50 ms | p95 ms | p99 ms | most ms | healthy jobs |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in _KINDS:
        print(_measure(kind, seconds), flush=True)


def _measure(kind: str | None, seconds: float) -> str:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = NatsServer(Path(folder) / "nats")
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
    kind: str | None, seconds: float, server: NatsServer, workers: Workers, stopping: threading.Event
) -> str:
    options = make_options(server.url)
    topology.apply(options, [QUEUE])
    for _ in range(2):
        threading.Thread(target=_supervise, args=(workers, stopping), daemon=True).start()
    while workers.count("boot") < 2:
        time.sleep(0.05)
    broker = JetStreamBroker(options, [QUEUE])
    sent, poisoned, buried = _produce(broker, kind, seconds)
    broker.join(QUEUE.name, timeout=60_000)
    waits = _waits(workers, sent)
    deaths = workers.count("start", kind) if kind else 0
    broker.close()
    after = f"{buried - poisoned:.1f}" if buried else "-"
    percentiles = statistics.quantiles(waits, n=100)
    figures = [percentiles[49], percentiles[94], percentiles[98], max(waits)]
    shown = " | ".join(f"{1000 * figure:.1f}" for figure in figures)
    return f"| {kind or 'none'} | {after} | {deaths} | {shown} | {len(waits)} |"


def _produce(
    broker: JetStreamBroker, kind: str | None, seconds: float
) -> tuple[dict[str, float], float, float]:
    sent: dict[str, float] = {}
    begin, poisoned, buried = time.time(), 0.0, 0.0
    for number in range(int(seconds * _RATE)):
        time.sleep(max(0.0, begin + number / _RATE - time.time()))
        if kind and not poisoned and time.time() - begin > _POISON_AFTER_SECONDS:
            broker.enqueue(message(kind, kind, queue=QUEUE.name))
            poisoned = time.time()
        if poisoned and not buried and number % 20 == 0 and dead_letter.list_dead(broker, 1):
            buried = time.time()
        sent[f"h{number}"] = time.time()
        broker.enqueue(message("work", f"h{number}", 0.01, queue=QUEUE.name))
    return sent, poisoned, buried


def _waits(workers: Workers, sent: dict[str, float]) -> list[float]:
    """Seconds from enqueue to the first start, of every healthy job."""
    started: dict[str, float] = {}
    for line in workers.lines():
        if line[0] == "start" and line[1] in sent:
            started.setdefault(line[1], float(line[-1]))
    return [started[name] - at for name, at in sent.items() if name in started]


if __name__ == "__main__":
    main()
