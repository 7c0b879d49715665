"""Worker processes as their frameworks' own command lines start them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.broker.processes import cpu_seconds, memory_mb, send, stop_politely, tree
from tests.bench.broker.run import Records, Run
from tests.bench.broker.systems import THREADS, System

ROOT = Path(__file__).parents[3]
_APPS = "tests.bench.broker.app_"
_BOOT_SECONDS = 60.0


def command_lines(framework: str, processes: int) -> list[list[str]]:
    """One command per supervisor: Celery's thread pool has a supervisor for each process."""
    program = str(Path(sys.executable).with_name(framework))
    if framework == "dramatiq":
        return [[program, f"{_APPS}dramatiq:set_up", "-p", str(processes), "-t", str(THREADS)]]
    if framework == "taskiq":
        options = ["--workers", str(processes), "--max-threadpool-threads", str(THREADS)]
        return [[program, "worker", f"{_APPS}taskiq:broker", *options]]
    options = ["--pool", "threads", "--concurrency", str(THREADS), "--loglevel", "WARNING"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [
        [program, "-A", f"{_APPS}celery", "worker", "-n", f"bench{number}@localhost", *options]
        for number in range(processes)
    ]


class Workers:
    """`processes` worker processes of eight threads each."""

    def __init__(self, system: System, run: Run, log: Path, processes: int) -> None:
        self.processes = processes
        self._run, self._log = run, log
        self._commands = command_lines(system.framework, processes)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start without waiting."""
        with self._log.open("ab") as log:
            self._started = [
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=self._run.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for command in self._commands
            ]

    def wait_ready(self, records: Records, feed: Callable[[], object]) -> None:
        """Feed small jobs until every process has finished one; raises RuntimeError with the workers' log."""
        start, deadline = records.count(), time.monotonic() + _BOOT_SECONDS
        while True:
            feed()
            time.sleep(0.25)
            if len(set(records.since(start)["pid"])) >= self.processes:
                return
            if time.monotonic() > deadline or any(one.poll() is not None for one in self._started):
                raise RuntimeError(f"the workers do not work: {self.log_end()}")

    def log_end(self) -> str:
        """The last lines of what the workers printed."""
        return self._log.read_text()[-1500:]

    def pids(self) -> list[int]:
        """Supervisors and workers."""
        return tree(one.pid for one in self._started)

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        return cpu_seconds(self.pids())

    def memory_mb(self) -> float:
        """What is resident of all of them; shared pages count for each."""
        return memory_mb(self.pids())

    def freeze(self) -> None:
        """Stop the processes where they stand, so that a backlog can be made without them."""
        send(self.pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        send(self.pids(), signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 for all at once."""
        for one in self._started:
            stop_politely(one, signal.SIGKILL, seconds=5)
        self._started = []
