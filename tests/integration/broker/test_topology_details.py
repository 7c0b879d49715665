"""What `topology.apply` compares, and what it says when a server or a stream is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dramatiq.errors import BrokerConnectionError
from nats.js import api

from brokers import (
    BrokerOptions,
    JetStreamBroker,
    JetStreamRateLimiterBackend,
    JetStreamResultBackend,
    TopologyError,
    control,
    dead_letter,
    inspect,
    publish_event,
    recurring,
    subscribe_events,
    topology,
)
from brokers.jetstream import elections
from brokers.jetstream.connection import Connection, Session
from brokers.jetstream.drift import ONLY_WHERE_SET, STREAM_FIELDS
from brokers.jetstream.errors import connection_error
from brokers.jetstream.schedule import server_time
from brokers.jetstream.topology import dead_subject
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until


def test_everything_that_a_stream_is_given_is_compared() -> None:
    usual, given = api.StreamConfig(), set[str]()
    for config in topology.stream_configs(BrokerOptions(), QUEUES):
        fields = [field.name for field in dataclasses.fields(config)]
        given |= {name for name in fields if getattr(config, name) != getattr(usual, name)}
    assert given - {"name"} <= {*STREAM_FIELDS, *ONLY_WHERE_SET}


def test_a_bucket_that_was_made_without_its_rules_gets_them(server: NatsServer) -> None:
    options = make_options(server.url)
    connection = Connection(options)
    name = "KV_transforms_limits"
    plain = {"name": name, "subjects": ["$KV.transforms_limits.>"], "allow_direct": True}
    limits = {"allow_msg_ttl": True, "max_msgs_per_subject": 1, "discard": "new", "storage": "file"}
    connection.run(connection.session().api(f"STREAM.CREATE.{name}", plain | limits))
    connection.close()
    changes = [str(change) for change in topology.apply(options, QUEUES) if change.name == name]
    assert changes == [
        f"update stream {name}: allow_rollup_hdrs False -> True",
        f"update stream {name}: deny_delete False -> True",
    ]
    assert topology.apply(options, QUEUES) == []


async def _by_hand(session: Session, kind: str, stream: str, **fields: Any) -> None:
    """Change what the server has, as somebody does with its command line."""
    js = (await session.client()).jetstream()
    if kind == "stream":
        await js.update_stream((await js.stream_info(stream)).config.evolve(**fields))
    else:
        await js.add_consumer(stream, (await js.consumer_info(stream, "quick")).config.evolve(**fields))


def test_limits_and_backoffs_that_somebody_set_by_hand_are_taken_back(
    options: BrokerOptions, broker: JetStreamBroker
) -> None:
    session = broker.connection.session()
    broker.connection.run(_by_hand(session, "stream", "QUICK", max_bytes=100_000, max_msg_size=10_000))
    broker.connection.run(_by_hand(session, "consumer", "QUICK", ack_wait=30, backoff=[30, 60]))
    assert [str(change) for change in topology.apply(options, QUEUES)] == [
        "update stream QUICK: max_bytes 100000 -> None",
        "update stream QUICK: max_msg_size 10000 -> -1",
        "update consumer QUICK/quick: ack_wait 30.0 -> 1.5",
        "update consumer QUICK/quick: backoff [30.0, 60.0] -> None",
    ]
    assert topology.apply(options, QUEUES) == []


@pytest.mark.parametrize(
    ("field", "stream"),
    [("queue_max_age_seconds", "QUICK"), ("dead_letter_max_age_seconds", "DLQ_TRANSFORMS")],
)
def test_an_age_is_not_shortened_below_that_of_a_stored_message(
    server: NatsServer, options: BrokerOptions, broker: JetStreamBroker, field: str, stream: str
) -> None:
    broker.enqueue(message("work", "precious"))
    subject = dead_subject(options, "quick")
    broker.connection.run(broker.connection.session().publish(subject, b"a letter", {}))
    wait_until(lambda: _oldest_seconds(broker, stream) > 1.2, 30)
    shorter = make_options(server.url, **{field: 1.2})
    with pytest.raises(
        TopologyError, match=f"{stream} holds 1 messages and would lose those older than 1.2 s"
    ):
        topology.apply(shorter, QUEUES)
    topology.apply(make_options(server.url, **{field: 86_400.0}), QUEUES)
    assert _stored(broker, stream) == 1


def _oldest_seconds(broker: JetStreamBroker, stream: str) -> float:
    info = broker.connection.run(broker.connection.session().api(f"STREAM.INFO.{stream}"))
    return (server_time(info["ts"]) - server_time(info["state"]["first_ts"])).total_seconds()


def _stored(broker: JetStreamBroker, stream: str) -> int:
    info = broker.connection.run(broker.connection.session().api(f"STREAM.INFO.{stream}"))
    return int(info["state"]["messages"])


OPERATIONS: list[Callable[[JetStreamBroker], object]] = [
    inspect.depths,
    lambda broker: broker.join("quick", timeout=5000),
    lambda broker: broker.flush("quick"),
    lambda broker: broker.get_queue_message_counts("quick"),
    lambda broker: control.pause(broker, "quick", datetime.now(UTC) + timedelta(hours=1)),
    lambda broker: control.resume(broker, "quick"),
    lambda broker: control.paused_until(broker, "quick"),
    lambda broker: control.cancel(broker, "quick", "some id"),
    lambda broker: control.run_now(broker, "quick", "some id"),
    dead_letter.list_dead,
    dead_letter.list_ended,
    lambda broker: dead_letter.get(broker, 7),
    lambda broker: dead_letter.replay(broker, 7),
    lambda broker: dead_letter.discard(broker, 7),
    lambda broker: dead_letter.replay_many(broker, queue="quick"),
    lambda broker: recurring.schedules(broker, "quick"),
    lambda broker: JetStreamResultBackend(broker).forget(message("work")),
    lambda broker: JetStreamRateLimiterBackend(broker).add("key", 1, 1000),
]


def test_without_streams_every_operation_names_the_one_and_who_makes_it(server: NatsServer) -> None:
    broker = JetStreamBroker(make_options(server.url), QUEUES)
    for operation in OPERATIONS:
        with pytest.raises(TopologyError, match=r"has no stream (QUICK|DLQ_\w+|KV_\w+): .*topology\.apply"):
            operation(broker)
    broker.close()


def test_a_missing_consumer_is_named_with_its_stream(broker: JetStreamBroker) -> None:
    broker.connection.run(broker.connection.session().api("CONSUMER.DELETE.QUICK.quick"))
    for operation in (inspect.depths, lambda broker: control.paused_until(broker, "quick")):
        with pytest.raises(TopologyError, match=r"has no consumer QUICK/quick: .*topology\.apply"):
            operation(broker)


def test_a_consumer_that_the_server_refuses_is_named(options: BrokerOptions, broker: JetStreamBroker) -> None:
    session, name = broker.connection.session(), "rival"
    broker.connection.run(session.api("CONSUMER.DELETE.QUICK.quick"))
    config = {"durable_name": name, "ack_policy": "explicit", "filter_subject": "transforms.ready.quick"}
    body = {"stream_name": "QUICK", "config": config}
    broker.connection.run(session.api(f"CONSUMER.DURABLE.CREATE.QUICK.{name}", body))
    with pytest.raises(TopologyError, match=r"consumer QUICK/quick was refused by the server: .*not unique"):
        topology.apply(options, QUEUES)


def test_a_server_without_jetstream_says_so_in_dramatiqs_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elections, "_PATIENCE_SECONDS", 1.0)  # it will not get one
    settings = tmp_path / "nats.conf"
    settings.write_text("accounts { A { users: [ { user: ann, password: secret } ] } }")
    server = NatsServer(tmp_path / "nats", "-c", str(settings))
    server.start()
    try:
        with pytest.raises(BrokerConnectionError, match="JetStream not enabled"):
            topology.apply(make_options(f"nats://ann:secret@127.0.0.1:{server.port}"), QUEUES)
    finally:
        server.kill()


def test_a_server_that_was_never_heard_of_is_told_as_such() -> None:
    assert "NoneType" not in str(connection_error("connecting to a:4222", None))
    assert str(connection_error("x", TimeoutError())) == "x: the NATS server does not answer (TimeoutError)"


def test_a_follower_of_events_waits_until_the_stream_is_made(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, asked, seen = make_options(server.url), list[str](), list[bytes]()
    api_call = Session.api

    async def noted(self: Session, name: str, body: Any = None) -> Any:
        try:
            return await api_call(self, name, body)
        except TopologyError:
            asked.append(name)
            raise

    monkeypatch.setattr(Session, "api", noted)
    broker = JetStreamBroker(options, QUEUES)
    following = subscribe_events(
        broker, "transforms.status.>", lambda *event: seen.append(event[-1]), start_sequence=1
    )
    wait_until(lambda: len(asked) > 1)
    topology.apply(options, QUEUES)
    publish_event(broker, "transforms.status.x", b"heard", confirm=True)
    wait_until(lambda: seen == [b"heard"])
    following.close()
    broker.close()
