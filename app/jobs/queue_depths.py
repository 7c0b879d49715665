"""What waits, as gauges: streams, consumers, dead letters and disk of NATS; held jobs in Postgres."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from sqlalchemy import func, select

from app.jobs.pools import POOLS
from app.observability import server_metrics as gauges
from app.storage.postgres.session import Database
from app.storage.postgres.tables.jobs import Job
from brokers import JetStreamBroker, disk, inspect

logger = logging.getLogger(__name__)


def measure(broker: JetStreamBroker, monitoring_urls: Iterable[str] = ()) -> None:
    """Ask the server and set the gauges; `monitoring_urls` are the monitoring pages of servers.

    Raises Dramatiq's ConnectionFailed, TopologyError.
    """
    options = broker.connection.options
    stream_of = {spec.name: spec.stream for spec in broker.specs.values()}
    streams = (
        *stream_of.values(), options.dead_letter_stream, options.dead_record_stream, options.status_stream
    )  # fmt: skip
    for size in inspect.sizes(broker, streams):
        gauges.set_stream(size.stream, messages=size.messages, size_bytes=size.size_bytes)
    for depth in inspect.depths(broker):
        gauges.set_consumer(
            stream_of[depth.queue],
            depth.queue,
            pending=depth.ready,
            ack_pending=depth.in_flight,
            redelivered=depth.redelivered,
            scheduled=depth.scheduled,
        )
        gauges.set_dead_letters(depth.queue, depth.dead)
    fullest = max(_disks(broker, monitoring_urls), key=lambda one: (one.share, one.limit_bytes is not None))
    gauges.set_jetstream(fullest.used_bytes, fullest.limit_bytes)


def _disks(broker: JetStreamBroker, monitoring_urls: Iterable[str]) -> Iterator[disk.Disk]:
    yield disk.of_account(broker)
    for url in monitoring_urls:
        try:
            yield disk.of_server(url)
        except (OSError, ValueError) as error:
            logger.warning("cannot see how full the disk of NATS is: %s: %s", url, error)


def measure_held(database: Database) -> None:
    """Count the jobs that wait for their turn, by queue. Raises UnavailableError."""
    with database.transaction() as session:
        rows = session.execute(
            select(Job.queue, func.count()).where(Job.held, Job.state == "pending").group_by(Job.queue)
        ).all()
    held = {queue: int(number) for queue, number in rows}
    for pool in POOLS.values():
        gauges.set_held(pool.queue, held.get(pool.queue, 0))
