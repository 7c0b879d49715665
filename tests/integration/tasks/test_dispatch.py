"""Jobs on their way to the stream."""

from __future__ import annotations

from app.container import Container
from app.jobs.contracts import PlanDatasetTransform
from brokers import inspect
from tests.support.domain import World


def test_a_job_with_a_delay_waits_on_the_stream_as_a_scheduled_message(container: Container, world: World):
    transform = PlanDatasetTransform(world.dataset_transform(world.dataset()))
    with container.database.transaction() as session:
        container.outbox.record(session, transform, owner_id="ada", delay_seconds=30)
    (depth,) = (each for each in inspect.depths(container.broker) if each.queue == transform.queue)
    assert (depth.scheduled, depth.ready) == (1, 0)
