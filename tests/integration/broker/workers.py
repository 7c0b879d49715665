"""Real `dramatiq` command lines as subprocesses, and the history that their jobs write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dramatiq

from brokers import BrokerOptions, JetStreamBroker, JetStreamMessage, QueueSpec

QUEUES = [
    QueueSpec(name="quick", stream="QUICK", ack_wait_seconds=1.5),
    QueueSpec(name="other", stream="OTHER", ack_wait_seconds=30),
]
_ROOT = Path(__file__).parents[3]


def make_options(url: str, **changes: Any) -> BrokerOptions:
    values: dict[str, Any] = {
        "servers": url,
        "backoff_seconds": (0.3, 0.6, 1.2, 3.0),
        "hand_back_seconds": 0.5,
        "patrol_seconds": 1.0,
        "reconnect_seconds": 0.2,
        "max_reconnect_seconds": 0.4,
        "connect_timeout_seconds": 5.0,
        "publish_timeout_seconds": 2.0,
    }
    return BrokerOptions(**{**values, **changes})


def message(actor: str, *args: Any, queue: str = "quick", **options: Any) -> dramatiq.Message[Any]:
    return dramatiq.Message(queue_name=queue, actor_name=actor, args=args, kwargs={}, options=options)


def wait_until(condition: Callable[[], Any], seconds: float = 40.0, what: str = "") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


StartWorker = Callable[..., dramatiq.Worker]


def declare(
    broker: JetStreamBroker, function: Callable[..., Any], **options: Any
) -> dramatiq.Actor[..., Any]:
    decorate: Any = dramatiq.actor(broker=broker, **{"queue_name": "quick", **options})
    actor: dramatiq.Actor[..., Any] = decorate(function)
    return actor


def take(broker: JetStreamBroker, seconds: float = 30.0) -> tuple[Any, JetStreamMessage]:
    consumer = broker.consume("quick", prefetch=1, timeout=100)
    return consumer, wait_until(lambda: next(consumer), seconds)


def publish_raw(
    broker: JetStreamBroker, payload: bytes, headers: dict[str, str] | None = None, queue: str = "quick"
) -> None:
    session = broker.connection.session()
    broker.connection.run(session.publish(f"transforms.ready.{queue}", payload, headers or {}))


class Workers:
    """Workers of tests/integration/broker/actors.py that append lines to one history file."""

    def __init__(self, url: str, history: Path) -> None:
        self.url, self.history = url, history
        self.history.touch()
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        *,
        threads: int = 2,
        processes: int = 1,
        grace_ms: int = 10_000,
        prefetch: int | None = None,
        program: str = "dramatiq",
        module: str = "tests.integration.broker.actors",
    ) -> subprocess.Popen[bytes]:
        before = self.count("boot")
        command = [
            str(Path(sys.executable).with_name(program)),
            f"{module}:set_up",
            *("--processes", str(processes), "--threads", str(threads)),
            *("--worker-shutdown-timeout", str(grace_ms)),
        ]
        environment = {**os.environ, "TEST_NATS_URL": self.url, "TEST_HISTORY": str(self.history)}  # noqa: TID251
        environment |= {"TEST_PREFETCH": str(prefetch)} if prefetch else {}
        with (self.history.parent / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(worker)
        booted = before + processes
        wait_until(lambda: self.count("boot") >= booted or worker.poll() is not None, what="the worker boots")
        assert self.count("boot") >= booted, "the worker ended before it was there"
        return worker

    def lines(self) -> list[tuple[str, ...]]:
        return [tuple(line.split()) for line in self.history.read_text().splitlines()]

    def count(self, *start: str) -> int:
        return sum(1 for line in self.lines() if line[: len(start)] == start)

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9 for the command line and all its processes at once."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def terminate(self, worker: subprocess.Popen[bytes], seconds: float = 40) -> int:
        worker.send_signal(signal.SIGTERM)
        return worker.wait(seconds)

    def stop_all(self) -> None:
        for worker in self.running:
            if worker.poll() is None:
                self.kill(worker)
