from __future__ import annotations

import math
import threading
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest
from prometheus_client import REGISTRY

from app.container import Container
from app.jobs import queue_depths
from app.jobs.contracts import DATASETS
from app.observability.sampling import Sampler
from app.observability.server_metrics import forget_nats
from brokers.jetstream.errors import CrashLoopError
from tasks.middleware import DeadLetters, Housekeeping
from tests.integration.tasks.conftest import Pool
from tests.integration.tasks.test_scope import message
from tests.support.domain import Recorder


@pytest.fixture
def job_id(pool: Pool) -> UUID:
    return pool.plan()


def give_up(pool: Pool, letter: dramatiq.Message[Any] | None) -> None:
    DeadLetters(pool.container, "collections").after_dead_letter(
        pool.container.broker, letter, "crash-loop", CrashLoopError("3 runs started and never ended")
    )


def test_a_crash_loop_buries_its_job_and_tells_the_owner(pool: Pool, job_id: UUID, recorder: Recorder):
    assert pool.container.services.jobs.begin(job_id, "a worker that died") is not None
    give_up(pool, message(job_id))
    assert pool.job().state == "dead"
    row = pool.extraction()
    assert row.state == "failed"
    assert row.error_message is not None
    assert "3 runs started and never ended" in row.error_message
    assert [told.status for told in recorder.told][-1] == "failed"


def test_a_letter_of_an_older_publication_leaves_the_job_to_the_newer(pool: Pool, job_id: UUID):
    give_up(pool, message(job_id, publication=-1))
    assert pool.job().state == "pending"
    assert pool.extraction().state == "pending"


@pytest.mark.parametrize(
    "letter", [None, message(uuid4()), dramatiq.Message("q", "a", (), {"job_id": "7"}, {})]
)
def test_a_letter_that_names_no_job_changes_nothing(pool: Pool, job_id: UUID, letter: Any):
    give_up(pool, letter)
    assert pool.job().state == "pending"


class Moody:
    """A reconciler that fails in a way nobody thought of, then finds nothing."""

    def __init__(self) -> None:
        self.runs = 0
        self.again = threading.Event()

    def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise KeyError("a queue of tomorrow")
        self.again.set()


def test_housekeeping_outlives_an_error_nobody_thought_of(container: Container):
    moody = Moody()
    vars(container)["reconciler"] = moody
    container.settings.values["reconcile_interval_secs"] = 0.05  # type: ignore[index]  # whole seconds outside
    clock = Housekeeping(container)
    worker: Any = None
    clock.after_worker_boot(container.broker, worker)
    try:
        assert moody.again.wait(60)
    finally:
        clock.before_worker_shutdown(container.broker, worker)


def test_housekeeping_goes_on_without_streams(container: Container, nats_url: str):
    container.broker.connection.run(
        container.broker.connection.session().api(f"STREAM.DELETE.{container.queue_specs[0].stream}")
    )
    clock = Housekeeping(container)
    clock._do(lambda: queue_depths.measure(container.broker))  # logs, and the thread goes on


def pending() -> float | None:
    labels = {"stream": "DATASET_TRANSFORMS", "consumer": DATASETS}
    return REGISTRY.get_sample_value("nats_consumer_pending", labels)


def test_a_scrape_asks_nats_and_tells_no_old_number_once_it_cannot(container: Container):
    numbers = Sampler(lambda: queue_depths.measure(container.broker), forget_nats, every_seconds=0)
    numbers.refresh()
    assert pending() == 0
    assert (REGISTRY.get_sample_value("nats_jetstream_used_bytes") or 0) >= 0
    container.broker.connection.run(
        container.broker.connection.session().api(f"STREAM.DELETE.{container.queue_specs[0].stream}")
    )
    numbers.refresh()
    assert math.isnan(pending() or 0)
