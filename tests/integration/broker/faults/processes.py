"""Producers and workers as command lines of their own, which can be killed, stopped and cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.broker.faults import checker
from tests.integration.broker.faults.checker import Report, check
from tests.integration.broker.faults.history import History, Kind
from tests.integration.broker.faults.state import left, read_state
from tests.integration.broker.workers import wait_until

Process = subprocess.Popen[bytes]
_ROOT = Path(__file__).parents[4]
_PACKAGE = "tests.integration.broker.faults"
_DRAIN_SECONDS = 60.0


class Processes:
    """Everything that a fault test runs beside the server; `url` is where the server really is."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.history = History(folder / "history")
        self._log = folder / "processes.log"
        self._running: list[Process] = []

    def worker(self, *, threads: int = 4, url: str = "", broker: str = "") -> Process:
        """Start a worker's command line and wait until it is up."""
        before = self.history.count(Kind.BOOT)
        program = str(Path(sys.executable).with_name("dramatiq"))
        command = [program, f"{_PACKAGE}.jobs:set_up", "--processes", "1", "--threads", str(threads)]
        started = self._start([*command, "--worker-shutdown-timeout", "5000"], url, broker)
        wait_until(lambda: self.history.count(Kind.BOOT) > before, 30, "the worker boots")
        return started

    def producer(
        self,
        count: int,
        *,
        rate: float = 200,
        seconds: float = 0.01,
        mixed: bool = True,
        url: str = "",
        broker: str = "",
    ) -> Process:
        """Start a producer: `count` messages at `rate` per second for jobs that take `seconds`."""
        kind = "mixed" if mixed else "plain"
        command = [sys.executable, "-m", f"{_PACKAGE}.produce", str(count), str(rate), str(seconds), kind]
        return self._start(command, url, broker)

    def _start(self, command: list[str], url: str, broker: str) -> Process:
        environment = {**os.environ, "TEST_NATS_URL": url or self.url, "TEST_BROKEN": broker}  # noqa: TID251
        environment |= {"TEST_HISTORY": str(self.history.path)}
        with self._log.open("ab") as log:
            started = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._running.append(started)
        return started

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Send a signal to a command line and all its processes."""
        os.killpg(process.pid, number)

    def kill(self, process: Process) -> None:
        """kill -9, written down."""
        self.signal(process, signal.SIGKILL)
        process.wait()
        self.history.write(Kind.KILLED, process=f"{process.pid}:{process.pid}")

    def wait_for(self, kind: Kind, number: int, seconds: float = 60.0) -> None:
        """Until so many more events of a kind have happened: the load is flowing."""
        wanted = self.history.count(kind) + number
        wait_until(lambda: self.history.count(kind) >= wanted, seconds, f"{wanted} times {kind}")

    def finished(self, producer: Process, seconds: float = 120.0) -> None:
        """Wait until a producer has enqueued everything that it was told to."""
        assert producer.wait(seconds) == 0, self._log.read_text()[-5000:]

    def drained(self, seconds: float = _DRAIN_SECONDS) -> Report:
        """Wait until nothing is left to be run and every run has ended, then judge and print."""
        try:
            wait_until(lambda: left(self.url) == 0 and not self._open_runs(), seconds, "the queue drains")
        except AssertionError:
            print(self._log.read_text()[-5000:])  # noqa: T201 (for the person who reads the failure)
            print(self.report())  # noqa: T201
            raise
        return self.report()

    def _open_runs(self) -> bool:
        return bool(checker.open_runs(self.history.read()))

    def report(self) -> Report:
        """The verdicts as things stand, printed."""
        report = check(self.history.read(), read_state(self.url))
        print(report)  # noqa: T201 (the figures of done more, and everything about what went wrong)
        return report

    def stop(self) -> None:
        """End whatever still runs."""
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.history.close()
