"""The worker's side of its pulse (pulse.py): says that the loop lives, and what is running.

Threads write what they start straight into memory shared with the pulse, a microsecond per job; nothing is
sent and nobody is woken.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import mmap
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brokers.jetstream import pulse
from brokers.jetstream.loop import original
from brokers.jetstream.message import Delivery
from brokers.jetstream.options import BrokerOptions, QueueSpec

log = logging.getLogger(__name__)

_TICK_SECONDS, _STALE_SECONDS = 1.0, 10.0
_READ_BYTES = 65_536
_FIRST_FREE = pulse.REPORT_DESCRIPTOR + 1
_AGAIN_SECONDS = 30.0  # between two starts of a pulse that ended by itself
LOSS = "a process that native code freezes past ack_wait loses what it runs to others, who run it again"


class Lifeline:
    """One per process and broker. `hold` is for any thread, the rest for the loop, but for the making.

    Raises OSError where the system gives no memory to share.
    """

    def __init__(self, options: BrokerOptions, specs: Iterable[QueueSpec]) -> None:
        specs = tuple(specs)
        heartbeat = min(spec.heartbeat_seconds for spec in specs)
        self._options, self._queues = options, [spec.name for spec in specs]
        self._tick = min(_TICK_SECONDS, heartbeat / 4)
        self._stale = min(_STALE_SECONDS, heartbeat)
        self._file, self._memory = _shared_memory()
        self._free = deque(range(pulse.SLOTS))
        self._said = [self._settings()]
        self._reports, self._reporting = _new_pipe()
        os.set_blocking(self._reports, False)
        self._report = b""
        self._pid: int | None = None
        self._pipe: int | None = None
        self._started = 0.0
        self._stamp()
        self._start()

    def hold(self, delivery: Delivery) -> None:
        """A thread begins this message. Not seen: what is beyond a thousand, or has a subject too long."""
        reply = delivery.reply.encode()
        if len(reply) > pulse.LONGEST_REPLY:
            return
        try:
            slot = self._free.popleft()
        except IndexError:
            return
        spec, queue = delivery.spec, self._queues.index(delivery.spec.name)
        values = (delivery.beat_until, spec.heartbeat_seconds, queue, len(reply), reply)
        pulse.SLOT.pack_into(self._memory, pulse.offset(slot), *values)
        delivery.slot = slot

    def release(self, delivery: Delivery) -> None:
        """The message is in our hands no more."""
        slot, delivery.slot = delivery.slot, None
        if slot is not None:
            pulse.SLOT.pack_into(self._memory, pulse.offset(slot), 0.0, 0.0, 0, 0, b"")
            self._free.append(slot)

    def listen_on(self, subject: str) -> None:
        """The subject of a queue's roll calls, on which somebody must listen while we cannot."""
        self._said.append({"subject": subject})
        self._say(self._said[-1:])

    async def run(self) -> None:
        """Be seen to live, until cancelled."""
        try:
            while True:
                self._stamp()
                self._look_after()
                self._hear()
                before = time.monotonic()
                await asyncio.sleep(self._tick)
                still = time.monotonic() - before
                if still > self._stale:
                    log.warning(
                        "The event loop stood still for %.1f s: native code held the interpreter's lock, "
                        "or the process was stopped.",
                        still,
                    )
        finally:
            self._end()

    def _stamp(self) -> None:
        pulse.STAMP.pack_into(self._memory, 0, time.monotonic())

    def _start(self) -> None:
        """Start the pulse, or say why there is none; `_look_after` tries again."""
        self._started = time.monotonic()
        try:
            self._pid, self._pipe = self._spawn()
        except OSError as error:
            log.warning("No pulse could be started; %s: %s", LOSS, error)
        self._say(self._said)

    def _spawn(self) -> tuple[int, int]:
        """The pulse's process id, and the pipe to it; raises OSError."""
        listening, speaking = _new_pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, listening, 0),
            (os.POSIX_SPAWN_DUP2, self._file, pulse.MEMORY_DESCRIPTOR),
            (os.POSIX_SPAWN_DUP2, self._reporting, pulse.REPORT_DESCRIPTOR),
        ]
        # -P: its folder has names of the standard library.
        command = [sys.executable, "-P", str(Path(pulse.__file__))]
        spawn = original("os", "posix_spawn")  # no fork: this process has threads, and may be gevent's
        try:
            return spawn(sys.executable, command, os.environ, file_actions=actions), speaking  # noqa: TID251 (passed on)
        except OSError:
            os.close(speaking)
            raise
        finally:
            os.close(listening)

    def _settings(self) -> dict[str, object]:
        options = self._options
        return {
            "servers": list(options.server_urls),
            "name": f"{options.client_name}-pulse",
            "connect_seconds": options.connect_timeout_seconds,
            "tls": [options.tls_ca_file, options.tls_cert_file, options.tls_key_file],
            "credentials": options.credentials_file,
            "tick_seconds": self._tick,
            "stale_seconds": self._stale,
            "queues": self._queues,
            "log_fields": dict(options.log_fields) if options.log_fields is not None else None,
        }

    def _say(self, what: list[dict[str, object]]) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # it ended: the next one hears it all
                os.write(self._pipe, b"".join(json.dumps(line).encode() + b"\n" for line in what))

    def _hear(self) -> None:
        """What the pulse reports of a time in which we stood still."""
        try:
            *lines, self._report = (self._report + os.read(self._reports, _READ_BYTES)).split(b"\n")
        except BlockingIOError:
            return
        for line in lines:
            self._tell(json.loads(line))

    def _tell(self, report: dict[str, Any]) -> None:
        kept, lost = report["kept"], report["lost"]
        if not kept and not lost:  # nothing ran here
            return
        log.warning(
            "In the %.0f s for which this process stood still its pulse kept %d messages from redelivery; %d "
            "could not be kept, and others may run them, too. %s",
            report["seconds"], sum(kept.values()), sum(lost.values()), "; ".join(report["errors"]),
        )  # fmt: skip
        for queue in kept:
            self._options.tell("frozen", queue)
        for queue in lost:
            self._options.tell("frozen-lost", queue)

    def _look_after(self) -> None:
        if self._pid is not None and _has_ended(self._pid):
            self._pid = None
            log.warning("The pulse of this process ended by itself; a new one is started.")
        if self._pid is None and time.monotonic() - self._started > _AGAIN_SECONDS:
            self._hang_up()
            self._start()

    def _hang_up(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe)

    def _end(self) -> None:
        self._hang_up()
        if self._pid is not None and not _has_ended(self._pid):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)  # at once: we wait for it in the loop
                original("os", "waitpid")(self._pid, 0)
        self._pid = None
        for descriptor in (self._file, self._reports, self._reporting):
            os.close(descriptor)


def _new_pipe() -> tuple[int, int]:
    """Both ends of a pipe; raises OSError."""
    reading, writing = os.pipe()
    return _high(reading), _high(writing)


def _high(descriptor: int) -> int:
    """The same under a number that none of the pulse's has: one would be put in the place of another."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    finally:
        os.close(descriptor)


def _has_ended(pid: int) -> bool:
    try:
        return bool(original("os", "waitpid")(pid, os.WNOHANG)[0])
    except ChildProcessError:  # somebody who waits for all children (gevent) was told first
        return True


def _shared_memory() -> tuple[int, mmap.mmap]:
    """A file without a name, and the memory that it is; raises OSError."""
    file = _high(_nameless_file())
    try:
        os.truncate(file, pulse.MEMORY_BYTES)
        return file, mmap.mmap(file, pulse.MEMORY_BYTES)
    except OSError:
        os.close(file)
        raise


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            return os.memfd_create("pulse")
    file, path = tempfile.mkstemp()
    Path(path).unlink()
    return file
