"""How the ends of runs reach the loop: the first at once, those of the same moment together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from brokers.jetstream.heartbeat import ACK, Holdings
from brokers.jetstream.message import Delivery
from brokers.jetstream.options import QueueSpec
from tests.support.stack import run_apart

_SPEC = QueueSpec(name="quick", stream="QUICK")


class Loop:
    """The running loop, and how often it was woken from outside."""

    def __init__(self) -> None:
        self.wakes = 0

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self.wakes += 1
        asyncio.get_running_loop().call_soon(call)


def _holdings(background: list[asyncio.Task[Any]]) -> Holdings:
    def spawn(work: Coroutine[Any, Any, Any]) -> None:
        background.append(asyncio.get_running_loop().create_task(work))

    async def connected() -> None:
        await asyncio.Event().wait()

    session: Any = SimpleNamespace(on_connect=[], spawn=spawn, connected=connected)
    return Holdings(session)


def _delivery(number: int) -> Delivery:
    return Delivery(_SPEC, f"$JS.ACK.{number}", number, 1, b"", {})


async def _many_end_in_a_moment_and_one_later() -> tuple[int, int, int]:
    background: list[asyncio.Task[Any]] = []
    holdings, loop = _holdings(background), Loop()
    anyloop: Any = loop
    last, last_settled = _delivery(50), asyncio.Event()
    holdings.on_settled.append(lambda delivery: last_settled.set() if delivery is last else None)
    for number in range(50):
        delivery = _delivery(number)
        holdings.take(delivery)
        holdings.settle_soon(delivery, ACK, anyloop)
        await asyncio.sleep(0)
    while holdings._woken:  # noqa: ASYNC110 (nothing tells that it looks no more)
        await asyncio.sleep(0)
    together = loop.wakes
    holdings.settle_soon(last, ACK, anyloop)
    await last_settled.wait()
    for task in background:
        task.cancel()
    return together, loop.wakes, len(holdings.held)


def test_runs_that_end_in_one_moment_wake_the_loop_once_and_a_later_one_wakes_it_again() -> None:
    assert run_apart(_many_end_in_a_moment_and_one_later) == (1, 2, 0)
