"""The pulse of a worker process: renews what it runs while native code holds its interpreter's lock.

A program of its own (`python -P pulse.py`, started by lifeline.py), because no thread of a frozen process
runs. It costs a sleeping interpreter: nothing but the standard library is imported and nobody is connected
to until the worker's event loop has stood still for `stale_seconds`. Then it sends in-progress acks for the
jobs that had begun, none past its time limit. It listens to roll calls as well, and says nothing: the server
drops the worker's connection after some minutes, and a worker that nobody can reach is taken for gone. One
that is heard of and silent keeps what it has fetched until it wakes, or until ack_wait is over.

stdin        lines of JSON: the settings, then the subject of each queue's roll calls. URLs may hold
             passwords, so they are no arguments. Its end is the worker's end, and ours.
descriptor 3 memory shared with the worker: when its loop was last alive, and a slot for each running job
descriptor 4 lines of JSON for the worker, once it can read again: what was kept meanwhile, and what not
stderr       what people are to hear at once, as long as the worker cannot say it
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import select
import signal
import ssl
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

MEMORY_DESCRIPTOR, REPORT_DESCRIPTOR = 3, 4
SLOTS = 1024
STAMP = struct.Struct("d")  # of the monotonic clock, which all processes of a machine share
# May run until, seconds between renewals, number of the queue, length of the reply subject, it.
SLOT = struct.Struct("ddHB237s")
LONGEST_REPLY = 237
MEMORY_BYTES = SLOT.size * (SLOTS + 1)
_READ_BYTES = 65_536


class Running(NamedTuple):
    """A job that runs in the worker: the reply subject of its message, how often to renew it, its queue."""

    reply: str
    heartbeat_seconds: float
    queue: str


def offset(slot: int) -> int:
    """Where a slot begins in the shared memory; the stamp has the place before the first."""
    return SLOT.size * (slot + 1)


class Frozen:
    """What can be seen from outside of a worker whose loop stands still."""

    def __init__(self, memory: mmap.mmap, worker: int) -> None:
        self._memory, self._worker = memory, worker
        self._rest = b""
        self.settings: dict[str, Any] = {}
        self.roll_calls: list[str] = []  # subjects

    def hear(self, seconds: float) -> None:
        """Wait so long for news of the worker; raises EOFError when it is gone."""
        if os.getppid() != self._worker:  # a child that it forked may hold the pipe open
            raise EOFError
        if not select.select([0], [], [], seconds)[0]:
            return
        read = os.read(0, _READ_BYTES)
        if not read:
            raise EOFError
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "subject" in said:
                self.roll_calls.append(said["subject"])
            else:
                self.settings = said

    @property
    def last_alive(self) -> float:
        """When its loop ran last, by the monotonic clock."""
        (alive,) = STAMP.unpack_from(self._memory, 0)
        return float(alive)

    @property
    def needs_us(self) -> bool:
        """Whether its loop stands still, and not because the whole process was stopped.

        A stopped worker does nothing for its jobs: others must get them.
        """
        return time.monotonic() - self.last_alive > self.settings["stale_seconds"] and not _is_stopped(
            self._worker
        )

    def running(self) -> Iterator[Running]:
        """What it runs and may run still."""
        now = time.monotonic()
        for slot in range(SLOTS):
            until, heartbeat, queue, length, reply = SLOT.unpack_from(self._memory, offset(slot))
            if length and now <= until:
                yield Running(reply[:length].decode(), heartbeat, self.settings["queues"][queue])

    def say(self, text: str) -> None:
        """Tell people, in the way of the worker's own log lines where we were told that."""
        fields = self.settings["log_fields"]
        if fields is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = {"timestamp": now, "level": "WARNING", "message": text, **fields, "request_id": None}
            text = json.dumps({**line, "logger": "brokers.jetstream.pulse"})
        sys.stderr.write(f"{text}\n")


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:  # no Linux
        command = ["ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return state[:1] in {"T", "t"}


class Freeze:
    """One time that the worker stood still: the queue of each message that was renewed, or could not be."""

    def __init__(self, worker: Frozen) -> None:
        self._worker, self._began = worker, worker.last_alive
        self._kept: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._errors: list[str] = []

    def kept(self, job: Running) -> None:
        """A message was renewed."""
        if not self._kept:
            self._worker.say(f"Worker process {os.getppid()} stands still; its pulse keeps what it runs.")
        self._kept[job.reply] = job.queue

    def failed(self, error: Exception) -> None:
        """Nothing could be renewed just now; said once, however often it is tried."""
        if repr(error) not in self._errors:
            self._errors.append(repr(error))
            self._worker.say(f"The pulse of worker process {os.getppid()} cannot keep its jobs: {error!r}")
        self._lost |= {job.reply: job.queue for job in self._worker.running()}

    def report(self) -> None:
        """To the worker, who is back. How many messages of each queue."""
        lost = [queue for reply, queue in self._lost.items() if reply not in self._kept]
        told = {
            "seconds": time.monotonic() - self._began,
            "kept": Counter(self._kept.values()),
            "lost": Counter(lost),
            "errors": self._errors,
        }
        with contextlib.suppress(OSError):  # it is gone after all
            os.write(REPORT_DESCRIPTOR, json.dumps(told).encode() + b"\n")


async def stand_in(worker: Frozen, freeze: Freeze) -> None:
    """Renew until the worker does so itself again, is stopped or gone (EOFError)."""
    client = await _connected(worker.settings)
    try:
        for subject in worker.roll_calls:
            await client.subscribe(subject, cb=_say_nothing)
        sent: dict[str, float] = {}
        while worker.needs_us:
            now = time.monotonic()
            for job in worker.running():
                if now - sent.get(job.reply, 0.0) >= job.heartbeat_seconds:
                    await client.publish(job.reply, b"+WPI")
                    sent[job.reply] = now
                    freeze.kept(job)
            await client.flush()
            await asyncio.sleep(worker.settings["tick_seconds"])
            worker.hear(0)
    finally:
        await client.close()


async def _say_nothing(_: Any) -> None:
    """Whoever asks waits in vain, and so knows that the worker is there and silent."""


async def _connected(settings: dict[str, Any]) -> Any:
    from nats.aio.client import Client  # here: most never need what it takes

    async def silent(_: Exception) -> None:
        """The worker tells of an outage, and we try again."""

    client: Any = Client()
    connecting = client.connect(
        settings["servers"],
        name=settings["name"],
        allow_reconnect=False,
        max_reconnect_attempts=1,  # of each server: without it the client goes on for minutes all the same
        connect_timeout=settings["connect_seconds"],
        tls=_tls(*settings["tls"]),
        user_credentials=settings["credentials"],
        error_cb=silent,
    )
    # The worker may end meanwhile, and we are to end with it.
    await asyncio.wait_for(connecting, 2 * settings["connect_seconds"])
    return client


def _tls(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext | None:
    if ca_file is None and cert_file is None:
        return None
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


def main() -> None:
    """Sleep beside the worker, and stand in for it when it is frozen."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the worker, who ends us
        signal.signal(number, signal.SIG_IGN)
    memory = mmap.mmap(MEMORY_DESCRIPTOR, MEMORY_BYTES, access=mmap.ACCESS_READ)
    worker = Frozen(memory, os.getppid())
    try:
        while not worker.settings:
            worker.hear(1.0)
        freeze: Freeze | None = None
        while True:
            worker.hear(worker.settings["tick_seconds"])
            if worker.needs_us:
                freeze = freeze or Freeze(worker)
                _try(worker, freeze)
            elif freeze is not None:
                freeze.report()
                freeze = None
    except EOFError:
        os._exit(0)


def _try(worker: Frozen, freeze: Freeze) -> None:
    try:
        asyncio.run(stand_in(worker, freeze))
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the worker still needs us: tried again)
        freeze.failed(error)


if __name__ == "__main__":
    main()
