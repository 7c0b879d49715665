"""F04: a worker stands still in the middle of a run, and wakes when others have ended its job."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nats.js import JetStreamContext

from tests.chaos.faults.streams import with_jetstream
from tests.chaos.world import World, until
from tests.support.providers import Fault
from tests.support.stack import run_apart

TARGETS = (
    "collections, missed", "collections, redelivered",
    "datasets, missed", "datasets, redelivered", "datasets, the successor gives up",
)  # fmt: skip
_QUEUES = {"collections": "collection-transforms", "datasets": "dataset-transforms"}
_STREAMS = {"collections": "COLLECTION_TRANSFORMS", "datasets": "DATASET_TRANSFORMS"}
_RUNNING = """SELECT job_id::text, publication FROM jobs
    WHERE state = 'running' AND queue = %s AND kind = ANY(%s)"""
_SLOW_KINDS = ["extract_file", "embed_items"]
# A running job is missed 40 minutes after it began: its row says that it began yesterday.
_AGE = """UPDATE jobs SET started_at = started_at - interval '1 day',
    expected_by = expected_by - interval '1 day' WHERE job_id = ANY(%s::uuid[]) AND finished_at IS NULL"""
_ENDED = """SELECT job_id::text, publication, state, attempt, finished_at, outcome FROM jobs
    WHERE job_id = ANY(%s::uuid[]) AND finished_at IS NOT NULL ORDER BY job_id"""
_MARKER = re.compile(r"marker[0-9]+[a-z]+[0-9]+")
_IMPATIENT_SECONDS = (
    4.0  # instead of the ten minutes after which the server gives a silent worker's messages away
)
# The frozen worker may have asked for what comes again, up to four times; and where it stands still within a
# transaction, Postgres takes a minute to end that (idle_in_transaction_session_timeout).
_REDELIVERED_WITHIN_SECONDS = 150.0

Rows = list[tuple[Any, ...]]


def freeze(world: World, target: str) -> None:
    """SIGSTOP in the middle of a run, another worker takes its job over and ends it, then SIGCONT.

    It takes over because the reconciler misses the job, whose row is made older; or, "redelivered", because
    the server delivers the message again, whose ack_wait is made shorter. Where the successor is to give up,
    the provider denies it the texts that the frozen run waits for.
    """
    name, _, how = target.partition(", ")
    with _slow_work(world, name):
        until(lambda: _caught(world, name), seconds=20, pause=0.02)
        world.product.kill(name, signal.SIGSTOP)
        awaited = str(world.provider.slowed)
    try:
        jobs = dict(world.rows(_RUNNING, _QUEUES[name], _SLOW_KINDS))
        with _successor(world, name):  # takes nothing before it is up, some seconds
            denied = _MARKER.findall(awaited) if how == "the successor gives up" else ()
            world.provider.denied_words = frozenset(denied)
            ended = _redelivered(world, name, jobs) if how == "redelivered" else _taken_over(world, jobs)
            world.product.kill(name, signal.SIGCONT)
            time.sleep(3)  # the zombie tries to write
        _compare(world, ended, jobs)
        world.notes.append(
            f"F04: {len(ended)} of {len(jobs)} jobs ended by others while {target} stood still"
        )
    finally:
        world.provider.denied_words = frozenset()
        world.product.kill(name, signal.SIGCONT)


def _caught(world: World, name: str) -> bool:
    return bool(
        world.provider.slowed if name == "datasets" else world.rows(_RUNNING, _QUEUES[name], _SLOW_KINDS)
    )


@contextmanager
def _slow_work(world: World, name: str) -> Iterator[None]:
    """Runs of the pool take seconds, so that one can be caught."""
    world.proxies["s3"].mode = "slow" if name == "collections" else "pass"
    if name == "datasets":
        world.provider.faults.extend([Fault("slow", seconds=3.0)] * 2)
    try:
        yield
    finally:
        world.proxies["s3"].mode = "pass"


@contextmanager
def _successor(world: World, name: str) -> Iterator[None]:
    """A second worker of the pool."""
    other = f"{name}-2"
    world.product._commands[other] = world.product._commands[name].replace("HEALTH_CHECK_PORT=", "IGNORED=")
    try:
        world.product.begin(other)
        yield
    finally:
        world.product.end(other)
        del world.product._commands[other]


def _taken_over(world: World, jobs: dict[str, int]) -> Rows:
    """Have the jobs missed until others have ended them; the rows of those that were.

    More than once: the frozen worker may have asked for a message that the server still hands to it.
    """
    for _ in range(4 if jobs else 0):
        world.rows(_AGE, list(jobs))
        if until(lambda: len(_ended(world, jobs)) == len(jobs), seconds=8, pause=0.3):
            break
    world.provider.denied_words = frozenset()
    return _ended(world, jobs)


def _redelivered(world: World, name: str, jobs: dict[str, int]) -> Rows:
    """Have the server give the messages away until others have ended the jobs; the rows of those that were.

    Then their publications are the same: nobody has sent them anew.
    """
    with _impatient(world, name):
        until(lambda: len(_ended(world, jobs)) == len(jobs), seconds=_REDELIVERED_WITHIN_SECONDS, pause=0.3)
    ended = _ended(world, jobs)
    if len(ended) < len(jobs):
        left = sorted(jobs.keys() - {row[0] for row in ended})
        world.violations.append(f"F04: not delivered again within {_REDELIVERED_WITHIN_SECONDS:g} s: {left}")
    if any(publication != jobs[job_id] for job_id, publication, *_ in ended):
        world.notes.append("F04: some of the jobs were sent anew besides")
    return ended


@contextmanager
def _impatient(world: World, name: str) -> Iterator[None]:
    """The server gives the pool's messages away after some seconds; `streams apply` ends that."""

    async def act(jetstream: JetStreamContext) -> None:
        stream, consumer = _STREAMS[name], _QUEUES[name]
        info = await jetstream.consumer_info(stream, consumer)
        await jetstream.add_consumer(stream, info.config.evolve(ack_wait=_IMPATIENT_SECONDS))

    run_apart(with_jetstream, world, act)
    try:
        yield
    finally:
        world.flask("streams", "apply")


def _ended(world: World, jobs: dict[str, int]) -> Rows:
    return world.rows(_ENDED, list(jobs)) if jobs else []


def _compare(world: World, ended: Rows, jobs: dict[str, int]) -> None:
    """The worker that woke up must not have touched what others had ended."""
    before, after = ({row[0]: row for row in rows} for rows in (ended, _ended(world, jobs)))
    changed = [job_id for job_id, row in before.items() if after.get(job_id) != row]
    if changed:
        world.violations.append(f"F04: a worker that woke up changed jobs that others had ended: {changed}")
