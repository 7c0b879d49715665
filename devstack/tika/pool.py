"""A few warm parser processes; one that is too slow, too big or dead is killed and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from typing import Any

_WATCH_EVERY_SECONDS = 0.1
_START_SECONDS = 60.0

log = logging.getLogger("devstack.tika_server")


class DocumentError(Exception):
    """The document cannot be parsed, and never will be."""


class ParserLostError(Exception):
    """The parser of this document was killed (time, memory) or died; the message says which."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one document in one parser process."""

    children: int = 2
    time_seconds: float = 120.0
    memory_bytes: int = 1 << 30  # resident; the native runtime reserves 33 GB of address space, so no ulimit


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        import psutil

        self._process = process
        self._usage = psutil.Process(process.pid)

    @classmethod
    async def start(cls) -> _Child:
        argv = [sys.executable, "-m", "devstack.tika.child", str(os.getpid())]
        process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, start_new_session=True)
        child = cls(process)
        try:
            await asyncio.wait_for(child.read(), _START_SECONDS)
        except (TimeoutError, ParserLostError) as error:
            await child.kill()
            raise RuntimeError("A parser process did not start; its error is above") from error
        return child

    async def ask(self, request: dict[str, str]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            length = int.from_bytes(await self._process.stdout.readexactly(8), "big")
            answer: dict[str, Any] = json.loads(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            raise ParserLostError("The parser crashed on this document") from None
        return answer

    async def outgrow(self, limit_bytes: int) -> None:
        """Return when the process is over the limit."""
        import psutil

        with contextlib.suppress(psutil.Error):
            while self._usage.memory_info().rss <= limit_bytes:  # noqa: ASYNC110 - nobody signals memory
                await asyncio.sleep(_WATCH_EVERY_SECONDS)
            return
        await asyncio.Event().wait()  # it ended: the reader will say so

    def swollen(self, limit_bytes: int) -> bool:
        """Tell whether it keeps over half of the limit between two documents."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return bool(self._usage.memory_info().rss > limit_bytes // 2)
        return True

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with what it started, an OCR program say
        await self._process.wait()


class ParserPool:
    """Parses one document per child at a time; more requests than children wait their turn."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: asyncio.Queue[_Child] = asyncio.Queue()
        self._children: set[_Child] = set()
        self._replacing: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """True when a parser lives."""
        return bool(self._children)

    async def start(self) -> None:
        """Start every child, side by side."""
        await asyncio.gather(*(self._add() for _ in range(self._limits.children)))

    async def stop(self) -> None:
        """Kill every child."""
        for task in self._replacing:
            task.cancel()
        await asyncio.gather(*(child.kill() for child in self._children))
        self._children.clear()

    async def parse(
        self, path: str, name: str, output: str, *, time_seconds: float | None = None
    ) -> dict[str, Any]:
        """Return {"content", "metadata"}; output is "text", "xml" or "meta".

        The time limit counts from the moment a parser takes the document. Raises DocumentError and
        ParserLostError.
        """
        child = await self._idle.get()
        limit = min(time_seconds or self._limits.time_seconds, self._limits.time_seconds)
        healthy = False
        try:
            request = {"path": path, "name": name, "output": output}
            answer = await self._within_limits(child, request, limit)
            healthy = not child.swollen(self._limits.memory_bytes)
        finally:
            await self._give_back(child, healthy=healthy)
        if "error" in answer:
            raise DocumentError(answer["error"])
        return answer

    async def _within_limits(
        self, child: _Child, request: dict[str, str], limit_seconds: float
    ) -> dict[str, Any]:
        reading = asyncio.create_task(child.ask(request))
        watching = asyncio.create_task(child.outgrow(self._limits.memory_bytes))
        try:
            await asyncio.wait(
                {reading, watching}, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if reading.done():
                return reading.result()
            if watching.done():
                raise ParserLostError(f"The document needs more than {self._limits.memory_bytes >> 20} MiB")
            raise ParserLostError(f"The document takes longer than {limit_seconds:g} s")
        finally:
            reading.cancel()
            watching.cancel()

    async def _give_back(self, child: _Child, *, healthy: bool) -> None:
        if healthy:
            self._idle.put_nowait(child)
            return
        self._children.discard(child)
        await child.kill()
        task = asyncio.create_task(self._add())
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _add(self) -> None:
        child = await _Child.start()
        self._children.add(child)
        self._idle.put_nowait(child)
