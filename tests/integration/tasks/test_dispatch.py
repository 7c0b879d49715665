"""Jobs on their way to the stream."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from app.container import Container
from app.jobs.contracts import ExtractFile, PlanDatasetTransform
from app.jobs.outbox import Envelope
from brokers import inspect
from tests.integration.broker.workers import wait_until
from tests.integration.tasks.conftest import Pool
from tests.support.domain import World


def test_a_job_with_a_delay_waits_on_the_stream_as_a_scheduled_message(container: Container, world: World):
    transform = PlanDatasetTransform(world.dataset_transform(world.dataset()))
    with container.database.transaction() as session:
        container.outbox.record(session, transform, owner_id="ada", delay_seconds=30)
    (depth,) = (each for each in inspect.depths(container.broker) if each.queue == transform.queue)
    assert (depth.scheduled, depth.ready) == (1, 0)


def test_within_the_block_another_thread_lets_held_jobs_go_and_after_it_the_caller(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    threads: list[threading.Thread] = []
    dispatcher, send = pool.container.dispatcher, pool.container.dispatcher.send

    def sent(envelopes: Iterable[Envelope]) -> None:
        threads.append(threading.current_thread())
        send(envelopes)

    def ask() -> None:
        with pool.container.database.transaction() as session:
            work = ExtractFile(pool.transform, pool.file_id, len(threads) + 1)
            pool.container.outbox.record(session, work, owner_id="ada")

    monkeypatch.setattr(dispatcher, "send", sent)
    with dispatcher.admitting_beside():
        ask()
    ask()
    beside, caller = threads
    assert beside is not threading.current_thread()
    assert caller is threading.current_thread()
    depths = {depth.queue: depth.ready for depth in inspect.depths(pool.container.broker)}
    assert depths[ExtractFile.queue] == 2


def test_a_worker_lets_jobs_go_beside_its_runs_for_as_long_as_it_takes_any(pool: Pool):
    dispatcher = pool.container.dispatcher
    assert dispatcher._beside is None
    worker = pool.start(lambda *_: None)
    wait_until(lambda: dispatcher._beside is not None, 30)
    worker.stop()
    assert dispatcher._beside is None
