"""A process that enqueues what the driver asks for: `python -m tests.bench.broker.producer FRAMEWORK`.

One JSON object per line in, one out. The clock covers what a caller waits for: making the messages and having
them confirmed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from tests.bench.broker.run import PAYLOAD, current

THREADS = 16
_PACED_THREADS = 4
_AN_HOUR_MS = 3_600_000


class ThreadedProducer:
    """Dramatiq and Celery: `send` blocks its thread until the broker has confirmed."""

    def __init__(
        self,
        send: Callable[..., object],
        send_many: Callable[[list[Any]], object] | None = None,
        send_later: Callable[..., object] | None = None,
    ) -> None:
        self._send, self._send_many, self._send_later = send, send_many, send_later

    def single(self, kind: str, first: int, most: int, seconds: float) -> int:
        """One after the other; the number of jobs, which have the ids from `first` on."""
        return self._spread(self._send, 1, kind, first, most, seconds)

    def concurrent(self, kind: str, first: int, most: int, seconds: float) -> int:
        """From 16 threads."""
        return self._spread(self._send, THREADS, kind, first, most, seconds)

    def delayed(self, kind: str, first: int, most: int, seconds: float) -> int:
        """From 16 threads, due in an hour; 0 where that is not measured."""
        if self._send_later is None:
            return 0
        return self._spread(self._send_later, THREADS, kind, first, most, seconds)

    def batch(self, kind: str, first: int, most: int, seconds: float) -> int:
        """Everything in one call; 0 where the system has none."""
        del seconds
        if self._send_many is None:
            return 0
        self._send_many([(job, kind, time.monotonic_ns(), PAYLOAD) for job in range(first, first + most)])
        return most

    def _spread(
        self, send: Callable[..., object], threads: int, kind: str, first: int, most: int, seconds: float
    ) -> int:
        ids, deadline = itertools.count(first), time.monotonic() + seconds
        sent = [0] * threads

        def send_on(number: int) -> None:
            while time.monotonic() < deadline:
                job = next(ids)
                if job >= first + most:
                    return
                send(job, kind, time.monotonic_ns(), PAYLOAD)
                sent[number] += 1

        _in_threads(threads, send_on)
        return sum(sent)

    def paced(self, kind: str, first: int, most: int, rate: float) -> int:
        """At a rate per second, whatever the system does meanwhile."""
        begin = time.monotonic()

        def send_on(number: int) -> None:
            for position in range(number, most, _PACED_THREADS):
                _sleep(begin + position / rate - time.monotonic())
                self._send(first + position, kind, time.monotonic_ns(), PAYLOAD)

        _in_threads(_PACED_THREADS, send_on)
        return most


def _sleep(seconds: float) -> None:
    if seconds > 0:
        time.sleep(seconds)


def _in_threads(number: int, target: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(position: int) -> None:
        try:
            target(position)
        except BaseException as error:  # noqa: BLE001 - told to the driver, whatever it is
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(position,)) for position in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class AsyncProducer:
    """taskiq: the same from coroutines of one loop, which is how its users call it."""

    def __init__(self, send: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        self._send, self._loop = send, loop

    def single(self, kind: str, first: int, most: int, seconds: float) -> int:
        return self._loop.run_until_complete(self._spread(1, kind, first, most, seconds))

    def concurrent(self, kind: str, first: int, most: int, seconds: float) -> int:
        return self._loop.run_until_complete(self._spread(THREADS, kind, first, most, seconds))

    def batch(self, kind: str, first: int, most: int, seconds: float) -> int:
        del kind, first, most, seconds
        return 0

    async def _spread(self, tasks: int, kind: str, first: int, most: int, seconds: float) -> int:
        ids, deadline = itertools.count(first), time.monotonic() + seconds

        async def send_on() -> int:
            sent = 0
            while time.monotonic() < deadline:
                job = next(ids)
                if job >= first + most:
                    break
                await self._send(job, kind, time.monotonic_ns(), PAYLOAD)
                sent += 1
            return sent

        return sum(await asyncio.gather(*(send_on() for _ in range(tasks))))

    def paced(self, kind: str, first: int, most: int, rate: float) -> int:
        return self._loop.run_until_complete(self._paced(kind, first, most, rate))

    async def _paced(self, kind: str, first: int, most: int, rate: float) -> int:
        begin = time.monotonic()

        async def send_on(number: int) -> None:
            for position in range(number, most, _PACED_THREADS):
                await asyncio.sleep(max(0.0, begin + position / rate - time.monotonic()))
                await self._send(first + position, kind, time.monotonic_ns(), PAYLOAD)

        await asyncio.gather(*(send_on(number) for number in range(_PACED_THREADS)))
        return most


Producer = ThreadedProducer | AsyncProducer


def _dramatiq() -> Producer:
    from tests.bench.broker.app_dramatiq import set_up

    actor = set_up()

    def send_later(*job: Any) -> None:
        actor.send_with_options(args=job, delay=_AN_HOUR_MS)

    enqueue_many = getattr(actor.broker, "enqueue_many", None)
    if enqueue_many is None:
        return ThreadedProducer(actor.send, None, send_later)

    def send_many(jobs: list[Any]) -> None:
        enqueue_many([actor.message(*job) for job in jobs])

    return ThreadedProducer(actor.send, send_many, send_later)


def _celery() -> Producer:
    from tests.bench.broker.app_celery import work

    return ThreadedProducer(work.delay)


def _taskiq() -> Producer:
    from tests.bench.broker.app_taskiq import broker, work

    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    return AsyncProducer(work.kiq, loop)


def _answer(producer: Producer, request: dict[str, Any]) -> dict[str, Any]:
    mode = getattr(producer, request.pop("mode"))
    cpu, started = time.process_time(), time.perf_counter()
    try:
        count = mode(**request)
    except Exception as error:  # noqa: BLE001 - told to the driver, whatever it is
        return {"error": f"{type(error).__name__}: {error}"}
    return {"count": count, "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def _prepare() -> None:
    """Ours keeps its streams as whoever deploys makes them: once, beforehand."""
    run = current()
    if run.system.startswith("ours"):
        from brokers import topology
        from tests.bench.broker.app_dramatiq import topology_of

        topology.apply(*topology_of(run))


def main(framework: str, answers: TextIO) -> None:
    """Serve until the input ends."""
    _prepare()
    producer = {"dramatiq": _dramatiq, "celery": _celery, "taskiq": _taskiq}[framework]()
    for line in sys.stdin:
        print(json.dumps(_answer(producer, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # Whatever a library prints must not be taken for an answer.
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1], own)
    os._exit(0)  # threads of the frameworks may still run; nothing is left to confirm
