"""One system up and running: its server, its records, a producer, and workers as they are wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.broker.processes import tree
from tests.bench.broker.run import Records, Run
from tests.bench.broker.systems import System
from tests.bench.broker.workers import ROOT, Workers

_MEMORY = Path("/dev/shm")  # a folder in memory, for the records only


@dataclass(frozen=True)
class Sent:
    """Jobs that were enqueued and confirmed, and what that took."""

    ids: range
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return len(self.ids) / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor microseconds per job."""
        return self.cpu_seconds / len(self.ids) * 1e6


class Session:
    """Use as a context manager; everything that it started is ended with it."""

    def __init__(self, system: System, folder: Path, *, lease_seconds: float, cpu_rounds: int) -> None:
        self.system = system
        folder.mkdir(parents=True, exist_ok=True)
        self.server = system.server(folder / "server")
        memory = _MEMORY if _MEMORY.is_dir() else folder
        self.records = Records(memory / f"{folder.parent.name}-{folder.name}.records")
        self.run = Run(
            system=system.key,
            url=self.server.url,
            records=str(self.records.path),
            lease_seconds=lease_seconds,
            cpu_rounds=cpu_rounds,
            replicas=self.server.replicas,
        )
        self._log = folder / "workers.log"
        self._producer: subprocess.Popen[str] | None = None
        self._workers: list[Workers] = []
        self._next = 1

    def __enter__(self) -> Self:
        try:
            self.server.start()
            self.start_producer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for workers in self._workers:
            workers.kill()
        self.stop_producer()
        self.server.stop()
        self.records.path.unlink(missing_ok=True)

    def start_producer(self) -> None:
        """A fresh process that enqueues."""
        with self._log.open("ab") as log:
            self._producer = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.broker.producer", self.system.framework],
                cwd=ROOT,
                env=self.run.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.enqueue("single", most=1)  # the first call connects

    def stop_producer(self) -> None:
        """End it, hard: everything it said is confirmed."""
        if self._producer is not None:
            self._producer.kill()
            self._producer.wait()
            for stream in (self._producer.stdin, self._producer.stdout):
                if stream is not None:
                    stream.close()
            self._producer = None

    def _last_words(self) -> str:
        """What it says last, for the page; all of it goes to whoever watches."""
        said = self._log.read_text().strip()
        print(said[-1500:], file=sys.stderr, flush=True)
        return said.rsplit("\n", 1)[-1]

    def enqueue(self, mode: str, kind: str = "noop", **limits: Any) -> Sent:
        """Have the producer enqueue; raises RuntimeError when it could not."""
        assert self._producer is not None
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        extra = {} if mode == "paced" else {"seconds": 60.0}
        request = {"mode": mode, "kind": kind, "first": self._next, **extra, **limits}
        print(json.dumps(request), file=self._producer.stdin, flush=True)
        line = self._producer.stdout.readline()
        if not line:
            raise RuntimeError(f"the producer ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"enqueueing ({mode}): {answer['error']}")
        ids = range(self._next, self._next + answer["count"])
        self._next = ids.stop
        return Sent(ids, answer["seconds"], answer["cpu"])

    def server_pids(self) -> list[int]:
        """The server's processes with their children."""
        return tree(self.server.pids())

    def start_workers(self, processes: int) -> Workers:
        """Workers that are on their way."""
        workers = Workers(self.system, self.run, self._log, processes)
        self._workers.append(workers)
        workers.start()
        return workers

    def ready_workers(self, processes: int) -> Workers:
        """Workers of which every process has finished jobs."""
        workers = self.start_workers(processes)
        workers.wait_ready(self.records, lambda: self.enqueue("single", "sleep", most=8 * processes))
        return workers

    def wait_finished(self, count: int, *, seconds: float) -> None:
        """Until the records count so many; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self.records.count() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.records.count()} of {count} jobs in {seconds:g} s")
            time.sleep(0.005)

    def wait_quiet(self, seconds: float = 0.4) -> None:
        """Until nothing was finished for a moment: acknowledgements are through, too."""
        count, since = self.records.count(), time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(0.02)
            if self.records.count() != count:
                count, since = self.records.count(), time.monotonic()
