"""The supervisor: starts the servers side by side, checks that they answer, ends them, and no one else's."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import ports
from devstack.datadir import DataDir
from devstack.errors import StackError
from devstack.leftovers import end_leftovers, identity
from devstack.process import Process
from devstack.services.base import Service, Site
from devstack.services.nats import Nats
from devstack.services.postgres import Postgres
from devstack.services.s3 import S3
from devstack.services.tika import Tika
from devstack.services.vector import Vector

__all__ = ["SERVICES", "Stack", "StackError", "StackOptions"]

_SERVICES: tuple[type[Service], ...] = (Nats, Postgres, S3, Vector, Tika)
SERVICES = frozenset(service.name for service in _SERVICES)

_START_TIMEOUT_SECONDS = 90.0
_POLL_SECONDS = 0.03


@dataclass(frozen=True)
class StackOptions:
    """What to start and where.

    `base_port` is the first of 16 ports (and five more 10000 higher); None takes the block of the last start
    while it is free, else a free one. `durable=False` leaves out the disk syncs: for tests.
    """

    data_dir: Path
    base_port: int | None = None
    durable: bool = True
    services: frozenset[str] = SERVICES


class Stack:
    """Five servers on loopback; use as a context manager, or call start and stop."""

    def __init__(self, options: StackOptions, *, on_event: Callable[[str], None] | None = None) -> None:
        if unknown := options.services - SERVICES:
            raise StackError(f"Unknown services {sorted(unknown)}; there are {sorted(SERVICES)}")
        self.options = options
        self._say = on_event or (lambda _: None)
        self._folder = DataDir(options.data_dir)
        self._services: dict[str, Service] = {}
        self._processes: dict[str, Process] = {}
        # Linux ends a server when the *thread* that started it ends, so one thread starts them all.
        self._spawner: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The settings through which the product finds the servers."""
        merged: dict[str, str] = {}
        for service in self._services.values():
            merged |= service.environment()
        return merged

    def start(self) -> dict[str, str]:
        """Start every server and return `environment` once all of them answer.

        Raises StackError with the tail of the log of each server that did not come up; nothing runs then.
        """
        self._folder.acquire()
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack-spawner")
        try:
            end_leftovers(self._folder.state.children)
            self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise
        return self.environment

    def stop(self) -> None:
        """End every server that this supervisor started and give the data folder back."""
        with ThreadPoolExecutor(max_workers=len(SERVICES)) as pool:
            list(pool.map(self._end, tuple(self._processes)))
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
            self._folder.state.children = {}
            with contextlib.suppress(OSError):
                self._folder.save()
        self._folder.release()

    def restart(self, service: str) -> None:
        """Bring a server back on the same port with the same data, whether it runs or not."""
        self._end(self._known(service))
        self._begin(service)
        self._remember_children()

    def kill(self, service: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a server: a fault, for tests. After SIGKILL, return when it is gone."""
        process = self._processes.get(self._known(service))
        if process is None:
            return
        process.send(number)
        if number == signal.SIGKILL:
            process.wait(10)

    def alive(self, service: str) -> bool:
        """Tell whether the server's process runs (not whether it answers)."""
        process = self._processes.get(self._known(service))
        return process is not None and process.alive()

    def pid(self, service: str) -> int:
        """Pid of a running server."""
        return self._processes[self._known(service)].pid

    def log(self, service: str) -> Path:
        """The log file of a server."""
        return self._folder.logs / f"{self._known(service)}.log"

    def _start_on_free_ports(self) -> None:
        offsets = [offset for kind in _SERVICES for offset in kind.grpc_offsets]
        attempts = 1 if self.options.base_port is not None else 2
        for attempt in range(attempts):
            base = self._choose_base(offsets, fresh=attempt > 0)
            self._services = {
                kind.name: kind(self._site(kind.name, base))  # type: ignore[call-arg]  # a Protocol has no __init__
                for kind in _SERVICES
                if kind.name in self.options.services
            }
            self._folder.state.base_port = base
            self._folder.save()
            try:
                self._begin_all()
            except StackError:
                # Somebody may have taken a port between the look and the start: once more elsewhere.
                self._end_all()
                if attempt + 1 == attempts or not ports.taken(base, with_grpc=offsets):
                    raise
            else:
                return

    def _choose_base(self, offsets: Iterable[int], *, fresh: bool) -> int:
        wanted = self.options.base_port
        if wanted is not None:
            if taken := ports.taken(wanted, with_grpc=offsets):
                raise StackError(f"Ports {taken} are in use; choose another base port than {wanted}")
            return wanted
        last = self._folder.state.base_port
        if last is not None and not fresh:
            if not ports.taken(last, with_grpc=offsets):
                return last
            self._say(f"the ports of the last start ({last}…) are taken, choosing others")
        return ports.choose_base(with_grpc=offsets)

    def _site(self, name: str, base: int) -> Site:
        state = self._folder.state
        return Site(
            data=self._folder.path / name,
            run=self._folder.run,
            logs=self._folder.logs,
            base_port=base,
            durable=self.options.durable,
            postgres_password=state.postgres_password,
            s3_access_key=state.s3_access_key,
            s3_secret_key=state.s3_secret_key,
        )

    def _begin_all(self) -> None:
        failures = []
        with ThreadPoolExecutor(max_workers=len(SERVICES)) as pool:
            running = [pool.submit(self._begin, name) for name in self._services]
            for future in running:
                try:
                    future.result()
                except (StackError, OSError) as error:
                    failures.append(str(error))
        if failures:
            raise StackError("\n".join(failures))
        self._remember_children()

    def _begin(self, name: str) -> None:
        if self._spawner is None:
            raise StackError("The stack is not started")
        began = time.monotonic()
        service = self._services[name]
        service.prepare()
        process = self._spawner.submit(Process, service.command(), self.log(name)).result()
        self._processes[name] = process
        while not service.healthy():
            late = time.monotonic() - began > _START_TIMEOUT_SECONDS
            if late or not process.alive():
                why = f"gave no answer in {_START_TIMEOUT_SECONDS:.0f} s" if late else "ended while starting"
                raise StackError(f"{name} {why}; log {self.log(name)} ends:\n{process.log_tail()}")
            time.sleep(_POLL_SECONDS)
        self._say(f"{name} is up ({time.monotonic() - began:.1f} s)")

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            service = self._services[name]
            process.end(service.stop_signal, service.grace_seconds)
            service.cleanup()

    def _end_all(self) -> None:
        for name in tuple(self._processes):
            self._end(name)

    def _remember_children(self) -> None:
        children = {name: identity(process.pid) for name, process in self._processes.items()}
        self._folder.state.children = {name: known for name, known in children.items() if known}
        self._folder.save()

    def _known(self, service: str) -> str:
        if service not in self._services:
            raise StackError(f"{service} is not a service of this stack: {sorted(self._services)}")
        return service
