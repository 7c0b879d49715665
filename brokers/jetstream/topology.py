"""Names of subjects, and the streams and consumers that the options ask for, as pure functions.

`apply` is the one owner that creates and updates them on a server; workers and publishers never do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import nats.js.errors
from nats.js import api

from brokers.jetstream.connection import Connection, Session
from brokers.jetstream.drift import (
    CONSUMER_FIELDS,
    ONLY_WHERE_SET,
    STREAM_FIELDS,
    Change,
    differences,
    refuse_losses,
    set_fields,
)
from brokers.jetstream.elections import answered
from brokers.jetstream.errors import AWAY, ReplicasError, ServerTooOldError, TopologyError, connection_error
from brokers.jetstream.kv import bucket_configs
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.schedule import server_time

# Delayed messages in WorkQueue streams (2.12) with the leak and loss fixes of 2.14.1.
MINIMUM_SERVER = (2, 14, 1)

# The server's code for "replicas > 1 not supported in non-clustered mode", and for too few peers.
_NOT_CLUSTERED, _NO_PEERS = 10074, 10005
INDEX_CONSUMER = "dead-letter-index"
_INDEX_ACK_WAIT_SECONDS, _INDEX_ACK_PENDING = 60.0, 10_000
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Longer than any redelivery, so that a dead letter published twice is stored once.
_DEAD_LETTER_WINDOW_SECONDS = 3600.0


def token(text: str) -> str:
    """`text` as one subject token: itself where that is safe, else a digest."""
    if _TOKEN.fullmatch(text):
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def ready_subject(options: BrokerOptions, queue: str) -> str:
    """Where messages wait to be taken; the queue's consumer covers this subject alone."""
    return f"{options.subject_root}.ready.{queue}"


def scheduled_subject(options: BrokerOptions, queue: str, message_id: str) -> str:
    """Where one delayed message waits for its time; a second schedule replaces the first."""
    return f"{options.subject_root}.scheduled.{queue}.{token(message_id)}"


def scheduled_subjects(options: BrokerOptions, queue: str) -> str:
    """Where all delayed messages of a queue wait."""
    return f"{options.subject_root}.scheduled.{queue}.>"


def started_subject(options: BrokerOptions, queue: str, message_id: str, attempt: int) -> str:
    """Where runs of a redelivered message are noted before they start."""
    return f"{options.subject_root}.started.{queue}.{token(message_id)}.{attempt}"


def unique_subject(options: BrokerOptions, queue: str, key: str) -> str:
    """Where the lock of a unique key lies until its message is done."""
    return f"{options.subject_root}.unique.{queue}.{token(key)}"


def recurring_subject(options: BrokerOptions, queue: str, name: str) -> str:
    """Where a recurring schedule lies."""
    return f"{options.subject_root}.recurring.{queue}.{token(name)}"


def roster_subject(options: BrokerOptions, queue: str, worker: str) -> str:
    """Where a worker is written down while it works on the queue."""
    return f"{options.subject_root}.roster.{queue}.{worker}"


def presence_subject(options: BrokerOptions, queue: str, worker: str) -> str:
    """What a worker listens to while it lives; in no stream."""
    return f"{options.subject_root}.presence.{queue}.{worker}"


def dead_subject(options: BrokerOptions, queue: str) -> str:
    """Where the queue's dead letters lie."""
    return f"{options.subject_root}.dead.{queue}"


def replayed_subject(options: BrokerOptions, queue: str, message_id: str) -> str:
    """Where it is marked that this successor of a dead letter was stored (see replaying.py)."""
    return f"{options.subject_root}.replayed.{queue}.{token(message_id)}"


def status_subjects(options: BrokerOptions) -> str:
    """The subject tree of progress events."""
    return f"{options.subject_root}.status.>"


def queue_subjects(options: BrokerOptions, queue: str) -> list[str]:
    """All subjects of a queue inside its WorkQueue stream."""
    root = options.subject_root
    others = [f"{root}.recurring.{queue}.>", roster_subject(options, queue, "*")]
    return [*message_subjects(options, queue), *others]


def message_subjects(options: BrokerOptions, queue: str) -> list[str]:
    """The subjects of a queue that hold messages and notes about them."""
    root = options.subject_root
    kinds = ("scheduled", "started", "unique")
    return [f"{root}.ready.{queue}", *(f"{root}.{kind}.{queue}.>" for kind in kinds)]


def stream_configs(options: BrokerOptions, queues: Iterable[QueueSpec]) -> list[api.StreamConfig]:
    """The streams of these queues, the dead letters, the status events and the key-value buckets.

    The WorkQueue streams carry schedules and therefore no size limit: the server refuses
    discard-new beside schedules, and discard-old would silently drop the oldest jobs.
    """
    subjects: dict[str, list[str]] = {}
    for spec in queues:
        names = [*queue_subjects(options, spec.name), f"{options.subject_root}.replayed.{spec.name}.*"]
        subjects.setdefault(spec.stream, []).extend(names)
    common: dict[str, Any] = {
        "storage": api.StorageType.FILE,
        "num_replicas": options.replicas,
        "discard": api.DiscardPolicy.OLD,
    }
    work = [
        api.StreamConfig(
            name=name,
            subjects=names,
            retention=api.RetentionPolicy.WORK_QUEUE,
            max_age=options.queue_max_age_seconds,
            duplicate_window=min(120.0, options.queue_max_age_seconds),
            allow_msg_schedules=True,
            allow_msg_ttl=True,
            allow_atomic=True,
            **common,
        )
        for name, names in subjects.items()
    ]
    others = (_dead_letter_config, _dead_record_config, _status_config)
    return [*work, *(config(options, common) for config in others), *bucket_configs(options)]


def _dead_letter_config(options: BrokerOptions, common: Mapping[str, Any]) -> api.StreamConfig:
    return api.StreamConfig(
        name=options.dead_letter_stream,
        subjects=[f"{options.subject_root}.dead.*"],
        retention=api.RetentionPolicy.LIMITS,
        max_age=options.dead_letter_max_age_seconds,
        duplicate_window=min(_DEAD_LETTER_WINDOW_SECONDS, options.dead_letter_max_age_seconds),
        **common,
    )


def _dead_record_config(options: BrokerOptions, common: Mapping[str, Any]) -> api.StreamConfig:
    """Records carry their own time to live; the server raises one that is shorter than its markers'."""
    ages = (options.dead_letter_max_age_seconds, options.dead_record_max_age_seconds)
    return api.StreamConfig(
        name=options.dead_record_stream,
        subjects=[f"{options.subject_root}.record.>"],
        retention=api.RetentionPolicy.LIMITS,
        max_age=max(ages),
        duplicate_window=min(120.0, *ages),
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        subject_delete_marker_ttl=max(1.0, min(ages)),
        **common,
    )


def _status_config(options: BrokerOptions, common: Mapping[str, Any]) -> api.StreamConfig:
    return api.StreamConfig(
        name=options.status_stream,
        subjects=[status_subjects(options)],
        retention=api.RetentionPolicy.LIMITS,
        max_age=options.status_max_age_seconds,
        max_msgs=options.status_max_messages,
        duplicate_window=min(120.0, options.status_max_age_seconds),
        **common,
    )


def consumer_configs(
    options: BrokerOptions, queues: Iterable[QueueSpec]
) -> list[tuple[str, api.ConsumerConfig]]:
    """(stream, consumer) per queue: one durable pull consumer shared by the whole fleet.

    No `backoff` list: the server would use its first entry instead of ack_wait.
    """
    return [
        (
            spec.stream,
            api.ConsumerConfig(
                durable_name=spec.name,
                filter_subject=ready_subject(options, spec.name),
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=spec.ack_wait_seconds,
                max_deliver=options.max_deliver,
                max_ack_pending=options.max_ack_pending,
            ),
        )
        for spec in queues
    ]


def index_consumer(options: BrokerOptions) -> tuple[str, api.ConsumerConfig]:
    """(stream, consumer) of whoever keeps an index of the dead letters (see dead_feed)."""
    config = api.ConsumerConfig(
        durable_name=INDEX_CONSUMER,
        filter_subject=dead_subject(options, "*"),
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=_INDEX_ACK_WAIT_SECONDS,
        max_ack_pending=_INDEX_ACK_PENDING,
        headers_only=True,
    )
    return options.dead_letter_stream, config


def intended(options: BrokerOptions, queues: Iterable[QueueSpec]) -> list[tuple[str, str, dict[str, Any]]]:
    """What `apply` makes sure of: kind, name (both as in its changes) and fields; unset ones are left out."""
    specs, fields = list(queues), (*STREAM_FIELDS, *ONLY_WHERE_SET)
    streams = [("stream", str(one.name), set_fields(one, fields)) for one in stream_configs(options, specs)]
    consumers = [
        ("consumer", f"{stream}/{one.durable_name}", set_fields(one, CONSUMER_FIELDS))
        for stream, one in [*consumer_configs(options, specs), index_consumer(options)]
    ]
    return [*streams, *consumers]


def apply(options: BrokerOptions, queues: Iterable[QueueSpec], *, dry_run: bool = False) -> list[Change]:
    """Make the server's streams and consumers what is asked for; the list of (planned) changes.

    Idempotent: a second call returns []. Raises ServerTooOldError, ReplicasError, TopologyError
    (a change that would lose messages) and Dramatiq's ConnectionFailed.
    """
    specs = list(queues)
    connection = Connection(options)
    try:
        return connection.run(_apply(connection.session(), specs, dry_run=dry_run), timeout_seconds=60)
    except AWAY as error:
        raise connection_error("applying the topology", error) from error
    finally:
        connection.close()


async def _apply(session: Session, queues: list[QueueSpec], *, dry_run: bool) -> list[Change]:
    options = session.options
    client = await session.client()
    check_server(str(client._server_info.get("version", "0")))  # noqa: SLF001 (ServerVersion drops suffixes)
    clustered = bool(client._server_info.get("cluster"))  # noqa: SLF001 (no public face for the cluster's name)
    if options.replicas > 1 and not clustered:
        raise ReplicasError(_replicas_message(options, "a single server, not a cluster"))
    changes: list[Change] = []
    for stream in stream_configs(options, queues):
        changes += await _apply_stream(client, options, stream, dry_run=dry_run)
    for name, consumer in [*consumer_configs(options, queues), index_consumer(options)]:
        changes += await _apply_consumer(client, options, name, consumer, dry_run=dry_run)
    return changes


def check_server(version: str) -> None:
    """Raise ServerTooOldError unless `version` ("2.15.1", "2.14.0-RC.1") is new enough."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version.split("-", maxsplit=1)[0])[:3])
    if numbers < MINIMUM_SERVER:
        needed = ".".join(map(str, MINIMUM_SERVER))
        raise ServerTooOldError(
            f"the NATS server is version {version}; {needed} or newer is needed "
            "(scheduled messages in WorkQueue streams, and its fixes for lost messages)"
        )


def _replicas_message(options: BrokerOptions, found: str) -> str:
    return (
        f"NATS_REPLICAS asks for {options.replicas} copies of every stream, but the server is {found}: "
        f"set NATS_REPLICAS to 1, or run a cluster of at least {options.replicas} servers"
    )


async def _apply_stream(
    client: Any, options: BrokerOptions, wanted: api.StreamConfig, *, dry_run: bool
) -> list[Change]:
    js, what = client.jetstream(), f"stream {wanted.name}"
    try:
        info = await answered(f"reading {what}", lambda: js.stream_info(wanted.name))
    except nats.js.errors.NotFoundError:
        if not dry_run:
            await _store(what, lambda: js.add_stream(wanted), options)
        return [Change("stream", str(wanted.name), None, None, wanted)]
    fields = (*STREAM_FIELDS, *ONLY_WHERE_SET)
    changes = differences("stream", str(wanted.name), wanted, info.config, fields)
    if changes:
        await _refuse_losses(client, options, str(wanted.name), changes)
    if changes and not dry_run:
        values = {str(change.field): getattr(wanted, str(change.field)) for change in changes}
        updated = info.config.evolve(**values)
        await _store(what, lambda: js.update_stream(updated), options)
    return changes


async def _store(what: str, store: Callable[[], Awaitable[Any]], options: BrokerOptions) -> None:
    try:
        await answered(f"storing {what}", store)
    except nats.js.errors.ServiceUnavailableError:
        raise
    except nats.js.errors.APIError as error:
        if error.err_code in {_NOT_CLUSTERED, _NO_PEERS}:
            found = f"a cluster without that many usable servers ({error.description})"
            raise ReplicasError(_replicas_message(options, found)) from error
        raise TopologyError(f"{what} was refused by the server: {error.description}") from error


async def _refuse_losses(client: Any, options: BrokerOptions, name: str, changes: Sequence[Change]) -> None:
    """Status events and the entries of buckets are let go when their age shortens: they live on limits."""
    if name == options.status_stream or name.startswith("KV_"):
        changes = [change for change in changes if change.field != "max_age"]
    answer = await answered(f"reading stream {name}", lambda: client.request(f"$JS.API.STREAM.INFO.{name}"))
    info = json.loads(answer.data)
    refuse_losses(name, changes, info["state"], server_time(info["ts"]))


async def _apply_consumer(
    client: Any, options: BrokerOptions, stream: str, wanted: api.ConsumerConfig, *, dry_run: bool
) -> list[Change]:
    js = client.jetstream()
    label = f"{stream}/{wanted.durable_name}"
    try:
        info = await answered(
            f"reading consumer {label}", lambda: js.consumer_info(stream, wanted.durable_name)
        )
    except nats.js.errors.NotFoundError:
        if not dry_run:
            await _store(f"consumer {label}", lambda: js.add_consumer(stream, wanted), options)
        return [Change("consumer", label, None, None, wanted)]
    changes = differences("consumer", label, wanted, info.config, CONSUMER_FIELDS)
    if changes and not dry_run:
        values = {str(change.field): change.after for change in changes}
        updated = info.config.evolve(**values)
        await _store(f"consumer {label}", lambda: js.add_consumer(stream, updated), options)
    return changes
