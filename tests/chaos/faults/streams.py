"""Faults on what NATS holds: streams destroyed, an old copy put back, messages that nobody of ours sent."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import dramatiq
import nats
from nats.js import JetStreamContext

from brokers import dead_letter
from tests.chaos.world import World, opened, until
from tests.support.stack import run_apart

TARGETS = (
    "COLLECTION_TRANSFORMS", "DATASET_TRANSFORMS", "VISUALIZATION_TRANSFORMS",
    "DLQ_TRANSFORMS", "DLQ_RECORDS", "TRANSFORM_STATUS", "everything",
)  # fmt: skip
_BETWEEN_SECONDS = 5.0
_HURRIED_AFTER_SECONDS = 4.0
_LETTERS_WITHIN_SECONDS = 60.0
# Instead of the minutes after which a message is missed.
_HURRY = """UPDATE jobs SET expected_by = now() - interval '1 second'
    WHERE state IN ('pending', 'retrying') AND NOT held AND expected_by IS NOT NULL"""
_RECENT = "SELECT job_id::text, kind, publication FROM jobs WHERE queue = %s ORDER BY created_at DESC LIMIT 6"
_BAD = ("undecodable", "unknown-actor", "future-version")


def go_back(world: World, target: str) -> None:
    """F06: NATS comes back with what it had some seconds before, or with its newest blocks cut short."""
    store = Path(world.stack.options.data_dir) / "nats"
    copy = world.folder / "nats-copy"
    if target == "old copy":
        _copy(world, store, copy)
        time.sleep(_BETWEEN_SECONDS)
    world.stack.kill("nats")
    if target == "old copy":
        _replace(store, copy)
    else:
        _cut_short(store)
    world.stack.restart("nats")
    world.flask("streams", "apply")  # what was not there yet, or could not be read any more
    world.lose_streams()
    _hurry(world)


def destroy(world: World, target: str) -> None:
    """F07: an operator deletes or purges a stream, or all of them, then applies the topology."""
    verb, _, stream = target.partition(" ")

    async def act(jetstream: JetStreamContext) -> None:
        names = [str(info.config.name) for info in await jetstream.streams_info()]
        for name in names if stream == "everything" else [stream]:
            await (jetstream.delete_stream(name) if verb == "delete" else jetstream.purge_stream(name))

    run_apart(with_jetstream, world, act)
    if verb == "delete":
        world.flask("streams", "apply")
    world.lose_streams()
    _hurry(world)


def publish_strange(world: World, target: str) -> None:
    """F22: messages of jobs once more, some with an older publication, and three that nobody can read.

    The three must become dead letters, each once; the others must have no effect, which the checker sees.
    """
    before = _letters(world, target)
    known = world.rows(_RECENT, target)

    async def act(jetstream: JetStreamContext) -> None:
        subject = f"transforms.ready.{target}"
        for job_id, kind, publication in known:
            for number in {publication, max(0, publication - 1)}:
                await jetstream.publish(subject, _message(target, kind, job_id, number))
        await jetstream.publish(subject, b"\xff\x00 no message at all")
        await jetstream.publish(subject, _message(target, "no_such_actor", str(uuid4()), 0))
        future = {"Dramatiq-Format": "99"}
        await jetstream.publish(subject, _message(target, "extract_file", str(uuid4()), 0), headers=future)

    run_apart(with_jetstream, world, act)

    def arrived() -> bool:
        world.product.restart_dead()
        now = _letters(world, target)
        return all(now[reason] > before[reason] for reason in _BAD)

    until(arrived, seconds=_LETTERS_WITHIN_SECONDS, pause=1)
    new = _letters(world, target) - before
    if any(new[reason] != 1 for reason in _BAD):
        world.violations.append(f"F22: three bad messages became the dead letters {dict(new)}")


def _letters(world: World, queue: str) -> Counter[str]:
    with opened(world.environment) as container:
        letters = dead_letter.list_dead(container.broker, 10_000, queue=queue)
    return Counter(letter.reason for letter in letters if letter.reason in _BAD)


def _message(queue: str, actor: str, job_id: str, publication: int) -> bytes:
    options = {"max_retries": 4, "retries": 0}
    words = {"job_id": job_id, "publication": publication}
    return dramatiq.Message(queue, actor, (), words, options, message_id=str(uuid4())).encode()


async def with_jetstream(world: World, act: Callable[[JetStreamContext], Awaitable[None]]) -> None:
    """Act on the streams, past the proxies."""
    connection = await nats.connect(world.environment["NATS_URL"].split(","))
    try:
        await act(connection.jetstream())
    finally:
        await connection.close()


def _hurry(world: World) -> None:
    if world.hurry:
        time.sleep(_HURRIED_AFTER_SECONDS)
        world.rows(_HURRY)


def _copy(world: World, store: Path, copy: Path) -> None:
    """What a snapshot of the disk holds: the server stands still meanwhile."""
    shutil.rmtree(copy, ignore_errors=True)
    world.stack.kill("nats", signal.SIGSTOP)
    try:
        shutil.copytree(store, copy)
    finally:
        world.stack.kill("nats", signal.SIGCONT)


def _replace(store: Path, copy: Path) -> None:
    for entry in store.iterdir():  # the folder itself may be a mount
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(copy, store, dirs_exist_ok=True)


def _cut_short(store: Path) -> None:
    """Each stream's newest block loses its second half, as in a power cut."""
    for folder in store.rglob("msgs"):
        blocks = sorted(folder.glob("*.blk"), key=lambda path: int(path.stem))
        if blocks:
            with blocks[-1].open("r+b") as file:
                file.truncate(blocks[-1].stat().st_size // 2)
