"""What the servers behind a process are asked and how they are: Postgres's pool, NATS, Qdrant, providers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from app.observability.metrics import SECONDS_LONG, SECONDS_SHORT, child

POOL_SIZE = Gauge("database_connection_pool_size", "Open connections", multiprocess_mode="livesum")
POOL_IN_USE = Gauge("database_connection_pool_in_use", "Connections at work", multiprocess_mode="livesum")
POOL_MAX = Gauge("database_connection_pool_max", "Most connections", multiprocess_mode="livesum")
POOL_WAIT = Histogram(
    "database_connection_wait_seconds", "Wait for a connection of the pool", ["status"], buckets=SECONDS_SHORT
)
STREAM_MESSAGES = Gauge(
    "nats_stream_messages", "Messages in the stream", ["stream"], multiprocess_mode="mostrecent"
)
STREAM_BYTES = Gauge(
    "nats_stream_bytes", "Bytes of the stream on the server's disk", ["stream"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
CONSUMER_PENDING = Gauge(
    "nats_consumer_pending", "Messages not yet delivered", ["stream", "consumer"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
CONSUMER_ACK_PENDING = Gauge(
    "nats_consumer_ack_pending", "Messages delivered, not yet acked", ["stream", "consumer"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
CONSUMER_REDELIVERED = Gauge(
    "nats_consumer_redelivered", "Messages delivered more than once, not yet acked", ["stream", "consumer"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
CONSUMER_SCHEDULED = Gauge(
    "nats_consumer_scheduled", "Messages that wait for their time", ["stream", "consumer"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
DEAD_LETTERS = Gauge(
    "nats_dead_letters", "Dead letters that are kept", ["queue"], multiprocess_mode="mostrecent"
)
JETSTREAM_USED = Gauge(
    "nats_jetstream_used_bytes", "Disk that the account's streams take", multiprocess_mode="mostrecent"
)
JETSTREAM_LIMIT = Gauge(
    "nats_jetstream_limit_bytes", "Disk that the account may take; +Inf without a limit",
    multiprocess_mode="mostrecent",
)  # fmt: skip
VECTOR_DURATION = Histogram(
    "vector_operation_duration_seconds", "Time of Qdrant calls", ["operation", "status"],
    buckets=SECONDS_SHORT,
)  # fmt: skip
PROVIDER_DURATION = Histogram(
    "provider_request_duration_seconds", "Time of calls to embedding and language models",
    ["provider", "status"], buckets=SECONDS_LONG,
)  # fmt: skip
CIRCUITS_OPEN = Gauge(
    "provider_circuits_open", "Providers that are not called just now, in the whole fleet",
    multiprocess_mode="mostrecent",
)  # fmt: skip
CIRCUIT_CHANGES = Counter("provider_circuit_changes_total", "Circuits opened and closed here", ["to"])
PART_UP = Gauge(
    "health_part_up", "1 where a part answers, as readiness judges it", ["part"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
JOBS_HELD = Gauge(
    "jobs_held", "Jobs that wait in Postgres for their turn", ["queue"], multiprocess_mode="mostrecent"
)
PROVIDER_TOKENS = Counter(
    "provider_tokens_total", "Tokens that providers say they took and gave", ["provider", "direction"]
)
UPSERT_POINTS = Histogram(
    "vector_upsert_points", "Points of one write to Qdrant", buckets=(1, 4, 16, 32, 64, 128, 256, 512, 1024)
)
IN_PROGRESS = Counter("nats_in_progress_acks_total", "Times a message was kept from redelivery", ["queue"])
RESCUED = Counter(
    "nats_messages_rescued_total", "Messages that the server would have kept from everybody, or for too long",
    ["queue", "cause"],
)  # fmt: skip
FREEZES = Counter(
    "worker_freezes_total",
    "Times native code stopped a worker process at work, and whether its pulse could keep the messages",
    ["queue", "outcome"],
)
_CAUSES = ("stranded", "orphaned", "overdue")
_FREEZES = {"frozen": "kept", "frozen-lost": "lost"}

for _to in ("open", "closed"):
    CIRCUIT_CHANGES.labels(_to)
_UNKNOWN = float("nan")


def set_pool(*, size: int, in_use: int) -> None:
    """How many connections are open and at work in this process."""
    POOL_SIZE.set(size)
    POOL_IN_USE.set(in_use)


def pool_waited(seconds: float, *, failed: bool = False) -> None:
    """How long somebody waited for a connection, in vain or not."""
    child(POOL_WAIT, "failed" if failed else "success").observe(seconds)


def set_stream(stream: str, *, messages: int, size_bytes: int) -> None:
    """What a stream holds now."""
    STREAM_MESSAGES.labels(stream).set(messages)
    STREAM_BYTES.labels(stream).set(size_bytes)


def set_consumer(
    stream: str, consumer: str, *, pending: int, ack_pending: int, redelivered: int, scheduled: int
) -> None:
    """How many messages wait for this consumer or their time, and how many it works on."""
    CONSUMER_PENDING.labels(stream, consumer).set(pending)
    CONSUMER_ACK_PENDING.labels(stream, consumer).set(ack_pending)
    CONSUMER_REDELIVERED.labels(stream, consumer).set(redelivered)
    CONSUMER_SCHEDULED.labels(stream, consumer).set(scheduled)


def set_dead_letters(queue: str, number: int) -> None:
    """How many dead letters of a queue are kept."""
    DEAD_LETTERS.labels(queue).set(number)


def set_jetstream(used_bytes: float, limit_bytes: float | None) -> None:
    """How much disk the account's streams take and may take; None is no limit."""
    JETSTREAM_USED.set(used_bytes)
    JETSTREAM_LIMIT.set(float("inf") if limit_bytes is None else limit_bytes)


def set_part(part: str, *, is_up: bool) -> None:
    """What readiness says of a part."""
    PART_UP.labels(part).set(is_up)


def set_held(queue: str, number: int) -> None:
    """How many jobs of a queue wait for their turn."""
    JOBS_HELD.labels(queue).set(number)


def circuit_changed(to: Literal["open", "closed"]) -> None:
    """Count a circuit that was opened or closed."""
    CIRCUIT_CHANGES.labels(to).inc()


def set_open_circuits(number: int | None) -> None:
    """How many providers are left alone; None where nobody knows."""
    CIRCUITS_OPEN.set(_UNKNOWN if number is None else number)


def expect_queues(queues: Iterable[str]) -> None:
    """Begin what the broker tells of its queues at nought."""
    for queue in queues:
        IN_PROGRESS.labels(queue)
        for cause in _CAUSES:
            RESCUED.labels(queue, cause)
        for outcome in _FREEZES.values():
            FREEZES.labels(queue, outcome)


def broker_told(what: str, queue: str) -> None:
    """Count what the broker does by itself; `what` is one of the broker's happenings."""
    if what in _CAUSES:
        RESCUED.labels(queue, what).inc()
    elif what in _FREEZES:
        FREEZES.labels(queue, _FREEZES[what]).inc()
    else:
        IN_PROGRESS.labels(queue).inc()


def tokens_used(provider: str, taken: int, given: int) -> None:
    """Count the tokens of one answer."""
    PROVIDER_TOKENS.labels(provider, "input").inc(taken)
    PROVIDER_TOKENS.labels(provider, "output").inc(given)


def forget_nats() -> None:
    """NATS did not answer: no number is better than the last one, which an alert would take for today's."""
    for gauge in (
        STREAM_MESSAGES, STREAM_BYTES, CONSUMER_PENDING, CONSUMER_ACK_PENDING, CONSUMER_REDELIVERED,
        CONSUMER_SCHEDULED, DEAD_LETTERS,
    ):  # fmt: skip
        for labels in list(gauge._metrics):  # noqa: SLF001 - the library lists them nowhere else
            gauge.labels(*labels).set(_UNKNOWN)
    JETSTREAM_USED.set(_UNKNOWN)
    JETSTREAM_LIMIT.set(_UNKNOWN)
