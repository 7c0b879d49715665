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
"""

from __future__ import annotations

import asyncio
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MEMORY_DESCRIPTOR = 3
SLOTS = 1024
STAMP = struct.Struct("d")  # of the monotonic clock, which all processes of a machine share
SLOT = struct.Struct("ddH238s")  # may run until, seconds between renewals, length of the reply subject, it
LONGEST_REPLY = 238
MEMORY_BYTES = SLOT.size * (SLOTS + 1)
_READ_BYTES = 65_536


class Running(NamedTuple):
    """A job that runs in the worker: the reply subject of its message, and how often to renew it."""

    reply: str
    heartbeat_seconds: float


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
    def needs_us(self) -> bool:
        """Whether its loop stands still, and not because the whole process was stopped.

        A stopped worker does nothing for its jobs: others must get them.
        """
        (alive,) = STAMP.unpack_from(self._memory, 0)
        return time.monotonic() - alive > self.settings["stale_seconds"] and not _is_stopped(self._worker)

    def running(self) -> Iterator[Running]:
        """What it runs and may run still."""
        now = time.monotonic()
        for slot in range(SLOTS):
            until, heartbeat, length, reply = SLOT.unpack_from(self._memory, offset(slot))
            if length and now <= until:
                yield Running(reply[:length].decode(), heartbeat)


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:  # no Linux
        command = ["ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return state[:1] in {"T", "t"}


async def stand_in(worker: Frozen) -> None:
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
        told: set[str] = set()
        while True:
            worker.hear(worker.settings["tick_seconds"])
            if worker.needs_us:
                _try(worker, told)
    except EOFError:
        os._exit(0)


def _try(worker: Frozen, told: set[str]) -> None:
    try:
        asyncio.run(stand_in(worker))
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the worker still needs us: tried again)
        if repr(error) not in told:  # once each: the worker's own log is silent as long as it is frozen
            told.add(repr(error))
            sys.stderr.write(f"The pulse of worker process {os.getppid()} cannot keep its jobs: {error!r}\n")


if __name__ == "__main__":
    main()
