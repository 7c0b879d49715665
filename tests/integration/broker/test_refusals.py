"""A server that answers and refuses to store: what it says no to is told apart from a server that is away."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dramatiq.errors import ConnectionFailed

from brokers import JetStreamBroker, dead_letter, inspect
from brokers.jetstream import presence
from brokers.jetstream.connection import Session
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from tests.integration.broker import letters
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, message, wait_until


@contextmanager
def no_room(server: NatsServer) -> Iterator[None]:
    """What the server writes to its files fails, as on a full disk."""
    assert server.process is not None
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_readiness_asks_for_a_restart_of_a_server_whose_disk_was_full(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    inspect.probe(broker)
    with no_room(server), pytest.raises(ConnectionFailed, match="confirms no write"):
        inspect.probe(broker)
    with pytest.raises(ConnectionFailed, match="if its disk was full, restart NATS"):
        inspect.probe(broker)  # there is room again, and the server says nothing
    inspect.ping(broker)
    server.stop()
    server.start()
    wait_until(lambda: inspect.ping(broker))
    inspect.probe(broker)


def test_readiness_leaves_nothing_behind_and_does_not_mind_a_stream_that_is_missing(
    broker: JetStreamBroker,
) -> None:
    session = broker.connection.session()
    inspect.probe(broker)
    broker.connection.run(session.api("STREAM.DELETE.OTHER"))
    inspect.probe(broker)

    def messages() -> int:
        return int(broker.connection.run(session.api("STREAM.INFO.QUICK"))["state"]["messages"])

    wait_until(lambda: messages() == 0)


def test_a_replay_that_one_stream_refuses_does_not_keep_the_others_from_theirs(
    broker: JetStreamBroker,
) -> None:
    session = broker.connection.session()
    refused, taken = letters.bury(broker, sequence=1), letters.bury(broker, spec=QUEUES[1], sequence=2)
    config = broker.connection.run(session.api("STREAM.INFO.QUICK"))["config"] | {"allow_atomic": False}
    broker.connection.run(session.api("STREAM.UPDATE.QUICK", config))
    report = dead_letter.replay_many(broker, [refused, taken], per_second=None)
    assert list(report.replayed) == [taken]
    assert "apply the streams' configuration again" in report.failed[refused]
    assert report.stopped is None
    assert [letter.id for letter in dead_letter.list_dead(broker)] == [refused]


class _Silent(Presence):
    async def _answer(self, msg: object) -> None:
        """As a process that stands still: its connection is there."""


def test_what_a_dead_worker_held_is_found_while_another_says_nothing(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_ANSWER_SECONDS", 0.2)
    run, session, spec = broker.connection.run, broker.connection.session(), QUEUES[1]
    for name in ("of the dead", "of the silent"):
        broker.enqueue(message("work", name, queue="other"))
    dead, named = run(_deliver_two(session))
    silent, gone = _Silent(session, spec, list), Presence(session, spec, lambda: [dead])
    patrol = Patrol(session, spec, Presence(session, spec, list))
    for each in (silent, gone):
        run(each.show())
    run(patrol.once())
    for subscription in gone._subscriptions:
        run(subscription.unsubscribe())
    for _ in range(3):  # it acts on what it has seen twice
        run(patrol.once())
    (again,) = letters.take_all(broker, "other")
    assert again.args == ("of the dead",)
    assert run(session.holds(spec.stream, named))


async def _deliver_two(session: Session) -> tuple[int, int]:
    """Hand out two messages; their sequences."""
    client = await session.client()
    pull = await client.jetstream().pull_subscribe_bind(stream="OTHER", consumer="other")
    first, second = await pull.fetch(2, timeout=2)
    await pull.unsubscribe()
    return first.metadata.sequence.stream, second.metadata.sequence.stream
