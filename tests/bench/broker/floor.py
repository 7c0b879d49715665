"""What a bare socket and raw nats-py reach on the same server: the floor under everything that ours does.

    python -m tests.bench.broker.floor URL REPLICAS SECONDS

A stream like ours (WorkQueue, file), 1 kB payloads: publishing one at a time and 64 in flight, then fetching
200 and acknowledging each without waiting. Prints one JSON object of rates per second and microseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import nats
from nats.js import api

from brokers.jetstream.elections import answered
from tests.bench.broker import bare

_BODY = b"x" * 1000
_IN_FLIGHT, _FETCH, _MOST = 64, 200, 20_000


async def _publish(js: Any, tasks: int, seconds: float) -> tuple[int, float]:
    started = time.perf_counter()
    sent = 0

    async def publish_on() -> None:
        nonlocal sent
        while time.perf_counter() < started + seconds and sent < _MOST:
            sent += 1
            await js.publish("floor", _BODY)

    await asyncio.gather(*(publish_on() for _ in range(tasks)))
    return sent, time.perf_counter() - started


async def measured(url: str, replicas: int, seconds: float) -> dict[str, float]:
    """Jobs per second of each kind, and the microseconds of one publish at a time."""
    client = await nats.connect(url.split(","))
    js = client.jetstream()
    config = api.StreamConfig(
        name="FLOOR", subjects=["floor"], retention=api.RetentionPolicy.WORK_QUEUE, num_replicas=replicas
    )
    await answered("making stream FLOOR", lambda: js.add_stream(config))
    found = bare.measured(url, "floor", _BODY, seconds)
    await js.purge_stream("FLOOR")
    cpu = time.process_time()
    single, single_seconds = await _publish(js, 1, seconds)
    found |= {
        "floor_single_us": single_seconds / single * 1e6,
        "floor_single_cpu_us": (time.process_time() - cpu) / single * 1e6,
    }
    many, many_seconds = await _publish(js, _IN_FLIGHT, seconds)
    subscription = await js.pull_subscribe("floor", "floor", config=api.ConsumerConfig(max_ack_pending=1000))
    taken, started = 0, time.perf_counter()
    while taken < single + many and time.perf_counter() < started + 2 * seconds:
        for message in await subscription.fetch(_FETCH, timeout=5):
            await message.ack()
            taken += 1
    await client.flush()
    found |= {
        "floor_single": single / single_seconds,
        "floor_concurrent": many / many_seconds,
        "floor_take": taken / (time.perf_counter() - started),
    }
    await js.delete_stream("FLOOR")
    await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
