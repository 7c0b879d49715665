"""What the deployment guide says of streams, consumers and concurrency, asked of real servers and workers."""

from __future__ import annotations

from typing import Any

import nats
import pytest

from app.config import Settings
from app.container import build
from app.jobs.pools import POOLS
from brokers import JetStreamBroker, dead_letter, inspect
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import Workers, message, wait_until
from tests.support.stack import run_apart

DAY = 86_400
# Retention, seconds that a message is kept at the most, most messages.
STREAMS = {
    "COLLECTION_TRANSFORMS": ("workqueue", 7 * DAY, -1),
    "DATASET_TRANSFORMS": ("workqueue", 7 * DAY, -1),
    "VISUALIZATION_TRANSFORMS": ("workqueue", 7 * DAY, -1),
    "DLQ_TRANSFORMS": ("limits", 30 * DAY, -1),
    "TRANSFORM_STATUS": ("limits", 3600, 100_000),
}
MANY, AT_ONCE = 130, 100


def settings_of(server: NatsServer) -> Settings:
    return Settings.from_env({"NATS_URL": server.url, "DATABASE_URL": "postgresql://nobody@/none"})


@pytest.fixture
def made(server: NatsServer) -> NatsServer:
    """A server with the product's streams, made as `flask streams apply` makes them."""
    container = build(settings_of(server))
    container.apply_topology(dry_run=False)
    container.broker.close()
    return server


async def streams(url: str) -> dict[str, tuple[str, float, int]]:
    client = await nats.connect(url)
    configs = [one.config for one in await client.jetstream().streams_info()]
    await client.close()
    return {
        str(one.name): (str(one.retention), float(one.max_age or 0), int(one.max_msgs or -1))
        for one in configs
    }


async def consumers(url: str) -> dict[str, Any]:
    client = await nats.connect(url)
    js = client.jetstream()
    found = {name: (await js.consumer_info(pool.stream, pool.queue)).config for name, pool in POOLS.items()}
    await client.close()
    return found


async def taken_together(url: str) -> tuple[int, int]:
    """How many of many messages a consumer gets, and how many more once it has acknowledged ten."""
    client, pool = await nats.connect(url), POOLS["datasets"]
    js = client.jetstream()
    for number in range(MANY):
        await js.publish(f"transforms.ready.{pool.queue}", str(number).encode())
    try:
        subscription = await js.pull_subscribe_bind(pool.queue, pool.stream)
        first = await all_that_come(subscription)
        for each in first[:10]:
            await each.ack_sync()
        second = await all_that_come(subscription)
    finally:
        await client.close()
    return len(first), len(second)


async def consumers_of(url: str) -> set[tuple[str, str]]:
    client = await nats.connect(url)
    js = client.jetstream()
    found = {
        (pool.stream, one.name) for pool in POOLS.values() for one in await js.consumers_info(pool.stream)
    }
    await client.close()
    return found


async def all_that_come(subscription: Any) -> list[Any]:
    found: list[Any] = []
    try:
        while True:
            found += await subscription.fetch(MANY, timeout=2)
    except TimeoutError:  # nothing comes any more; the library's own is one, too
        return found


def test_the_servers_streams_are_those_of_the_guide(made: NatsServer):
    found = run_apart(streams, made.url)
    assert {name: found[name] for name in STREAMS} == STREAMS


@pytest.mark.parametrize("name", POOLS)
def test_the_servers_consumers_are_those_of_the_guide(made: NatsServer, name: str):
    config = run_apart(consumers, made.url)[name]
    assert (config.max_ack_pending, config.max_deliver) == (100, 5)
    assert config.ack_wait == {"visualizations": 1800}.get(name, 600)
    assert not config.backoff, "the server would take its first wait for ack_wait"


def test_the_server_hands_out_no_more_than_max_ack_pending(made: NatsServer):
    assert run_apart(taken_together, made.url) == (AT_ONCE, 10)


def test_looking_leaves_no_consumer_on_a_stream_of_work(made: NatsServer):
    """It has one consumer for each subject: a second one would take messages away, or be refused."""
    container = build(settings_of(made))
    container.broker.enqueue(message("any", queue=POOLS["datasets"].queue))
    assert sum(depth.ready for depth in inspect.depths(container.broker)) == 1
    assert dead_letter.list_dead(container.broker) == []
    assert inspect.sizes(container.broker, [pool.stream for pool in POOLS.values()])
    container.broker.close()
    assert run_apart(consumers_of, made.url) == {(pool.stream, pool.queue) for pool in POOLS.values()}


def test_a_worker_runs_as_many_jobs_at_a_time_as_it_has_threads_and_no_more(
    broker: JetStreamBroker, workers: Workers
):
    threads = 2
    workers.start(threads=threads)
    for _ in range(7):
        broker.enqueue(message("hold", "gate"))
    wait_until(lambda: workers.count("start", "gate") == threads)
    # A second worker gets what the first cannot start, and no more than it can.
    workers.start(threads=threads)
    wait_until(lambda: workers.count("start", "gate") == 2 * threads)
    assert workers.count("end") == 0
    workers.history.with_name("gate").touch()
    broker.join("quick", timeout=30_000)
    assert at_most_at_once(workers) == threads


def at_most_at_once(workers: Workers) -> int:
    """Jobs that one process ran together, at the most."""
    running: dict[str, int] = {}
    most = 0
    for what, *_, process, _ in workers.lines():
        running[process] = running.get(process, 0) + {"start": 1, "end": -1}.get(what, 0)
        most = max(most, running[process])
    return most
