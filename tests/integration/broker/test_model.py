"""Random histories against a real server, compared with a model of a dozen lines.

Whatever is published, taken, ended, given back, paused, cancelled, replayed, and whenever the process
that holds messages dies: in the end every message is where the model says, and nowhere else.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from brokers import (
    BrokerOptions,
    JetStreamBroker,
    NotScheduledError,
    QueueSpec,
    control,
    dead_letter,
    topology,
)
from brokers.jetstream.message import JetStreamMessage
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import make_options, message, wait_until

# Longer than a history: what a dead process held comes back by the patrols of the next one alone.
_SPEC = QueueSpec(name="quick", stream="QUICK", ack_wait_seconds=60.0)
_HOUR = timedelta(hours=1)
_which = st.integers(min_value=0, max_value=10**6)


class _Shared:
    """One server for all histories: starting one takes longer than a history."""

    server: NatsServer


@pytest.fixture(scope="module", autouse=True)
def _server() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        _Shared.server = NatsServer(Path(folder))
        _Shared.server.start()
        topology.apply(_options(), [_SPEC])
        yield
        _Shared.server.kill()


def _options() -> BrokerOptions:
    return make_options(_Shared.server.url, prefetch=50, patrol_seconds=0.3)


async def _cut(broker: JetStreamBroker) -> None:
    """Nothing more leaves this process."""
    client: Any = broker.connection.session().connected_client
    if client is not None:
        client._pending.clear()
        client._transport._io_writer.transport.abort()


class BrokerMachine(RuleBasedStateMachine):
    """The model: sets of message ids by where they are."""

    @initialize()
    def start(self) -> None:
        self.broker = JetStreamBroker(_options(), [_SPEC])
        control.resume(self.broker, "quick")
        self.broker.flush("quick")
        for letter in dead_letter.list_dead(self.broker, 1000):
            dead_letter.discard(self.broker, letter.id)
        self.ready: set[str] = set()
        self.late: set[str] = set()  # past their deadline: dead as soon as somebody looks at them
        self.kept_back: set[str] = set()  # became ready in a pause: not to be handed out before its end
        self.scheduled: list[str] = []
        self.doomed: set[str] = set()  # scheduled for a time after their deadline
        self.held: list[tuple[Any, JetStreamMessage]] = []
        self.ended: set[str] = set()  # since the process began; nobody waited for the server to hear of it
        self.maybe: set[str] = set()  # ended, and the answer may be lost: may come again
        self.dead: set[str] = set()
        self.paused = False

    def _becomes_ready(self, *message_ids: str) -> None:
        self.ready.update(message_ids)
        if self.paused:
            self.kept_back.update(message_ids)

    @rule()
    def publish(self) -> None:
        self._becomes_ready(self.broker.enqueue(message("work")).message_id)

    @rule(count=st.integers(min_value=2, max_value=20))
    def publish_many(self, count: int) -> None:
        sent = self.broker.enqueue_many(message("work", number) for number in range(count))
        self._becomes_ready(*(one.message_id for one in sent))

    @rule()
    def publish_too_late(self) -> None:
        self.late.add(self.broker.enqueue(message("work", deadline=1)).message_id)

    @rule()
    def publish_and_let_the_deadline_pass(self) -> None:
        """Nobody looks at it meanwhile; it may lie in the process that will."""
        deadline = int(time.time() * 1000) + 50
        self.late.add(self.broker.enqueue(message("work", deadline=deadline)).message_id)
        time.sleep(max(0.0, deadline / 1000 - time.time() + 0.005))

    @rule()
    def schedule(self) -> None:
        self.scheduled.append(self.broker.enqueue(message("work"), delay=3_600_000).message_id)

    @rule()
    def schedule_too_late(self) -> None:
        """It is dead as soon as its time comes."""
        sent = self.broker.enqueue(message("work", deadline=1), delay=3_600_000).message_id
        self.scheduled.append(sent)
        self.doomed.add(sent)

    @precondition(lambda self: self.scheduled)
    @rule(which=_which)
    def cancel(self, which: int) -> None:
        cancelled = self.scheduled.pop(which % len(self.scheduled))
        control.cancel(self.broker, "quick", cancelled)
        with pytest.raises(NotScheduledError):
            control.run_now(self.broker, "quick", cancelled)

    @precondition(lambda self: self.scheduled)
    @rule(which=_which)
    def run_now(self, which: int) -> None:
        sent = self.scheduled.pop(which % len(self.scheduled))
        control.run_now(self.broker, "quick", sent)
        if sent in self.doomed:
            self.late.add(sent)
        else:
            self._becomes_ready(sent)

    @precondition(lambda self: not self.paused and self.ready and len(self.held) < 20)
    @rule()
    def fetch(self) -> None:
        consumer = self.broker.consume("quick", prefetch=50, timeout=50)
        found = wait_until(lambda: self._next(consumer), 30, "a ready message comes")
        self.held.append((consumer, found))

    @precondition(lambda self: self.paused and len(self.held) < 20)
    @rule()
    def look_during_a_pause(self) -> None:
        """What this process had fetched before it may still come, and nothing else."""
        consumer = self.broker.consume("quick", prefetch=50, timeout=50)
        found = self._next(consumer)
        if found is not None:
            self.held.append((consumer, found))

    def _next(self, consumer: Any) -> JetStreamMessage | None:
        """A message that is to be run; one whose end was not heard of is ended again."""
        found: JetStreamMessage | None = next(consumer)
        if found is None:
            return None
        assert found.message_id not in self.kept_back, "it came during a pause"
        if found.message_id not in self.maybe:
            self.ready.remove(found.message_id)
            return found
        self.maybe.remove(found.message_id)
        self.ended.add(found.message_id)
        consumer.ack(found)
        return None

    def _held(self, which: int) -> tuple[Any, JetStreamMessage]:
        return self.held.pop(which % len(self.held))

    @precondition(lambda self: self.held)
    @rule(which=_which)
    def ack(self, which: int) -> None:
        consumer, found = self._held(which)
        consumer.ack(found)
        self.ended.add(found.message_id)

    @precondition(lambda self: self.held)
    @rule(which=_which)
    def nack(self, which: int) -> None:
        consumer, found = self._held(which)
        found.fail()
        found.stuff_exception(RuntimeError("broken"))
        consumer.nack(found)
        self.ended.add(found.message_id)
        self.dead.add(found.message_id)

    @precondition(lambda self: self.held)
    @rule(which=_which)
    def requeue(self, which: int) -> None:
        consumer, found = self._held(which)
        consumer.requeue([found])
        self._becomes_ready(found.message_id)

    @rule()
    def crash(self) -> None:
        """The process is gone with all that it held: no goodbye, no answer to the server."""
        self.broker.connection.run(self.broker.running().holdings.confirmed(5))
        self._die()

    @rule()
    def crash_abruptly(self) -> None:
        """The same in the middle of its last answers: some were sent, some were not."""
        self.broker.connection.run(_cut(self.broker))
        self.maybe |= self.ended
        self._die()

    def _die(self) -> None:
        self.broker.connection.close()
        self.ready.update(found.message_id for _, found in self.held)
        self.kept_back = set(self.ready) if self.paused else set()
        self.held.clear()
        self.ended.clear()
        self.broker = JetStreamBroker(_options(), [_SPEC])

    @precondition(lambda self: self.dead)
    @rule(which=_which)
    def replay(self, which: int) -> None:
        letters = dead_letter.list_dead(self.broker, 1000)
        letter = letters[which % len(letters)]
        (self.late if letter.reason == "expired" else self.dead).remove(str(letter.message_id))
        successor = dead_letter.replay(self.broker, letter.id).message_id
        self._becomes_ready(successor)  # also of one that came too late: that was the old life's deadline

    @rule()
    def pause(self) -> None:
        control.pause(self.broker, "quick", datetime.now(UTC) + _HOUR)
        self.paused = True

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        control.resume(self.broker, "quick")
        self.paused = False
        self.kept_back.clear()

    @invariant()
    def what_waits_for_its_time_is_counted(self) -> None:
        count = self.broker.get_queue_message_counts
        wait_until(
            lambda: count("quick")[1] == len(self.scheduled), 5, f"{len(self.scheduled)} are scheduled"
        )

    def teardown(self) -> None:
        """Drain, and compare."""
        if not hasattr(self, "broker"):
            return
        try:
            self._drain()
            letters = {letter.message_id for letter in dead_letter.list_dead(self.broker, 1000)}
            assert letters == self.dead | self.late
        finally:  # or it would take the messages of the next history
            self.broker.close()

    def _drain(self) -> None:
        control.resume(self.broker, "quick")
        self.kept_back.clear()
        for consumer, found in self.held:
            consumer.ack(found)
        consumer = self.broker.consume("quick", prefetch=50, timeout=20)
        end = time.monotonic() + 15
        while (self.ready or self._waiting()) and time.monotonic() < end:
            arrived = self._next(consumer)
            if arrived is not None:
                consumer.ack(arrived)
        assert not self.ready, f"lost: {self.ready}"
        wait_until(lambda: self._waiting() == 0, 30, "nothing is left")

    def _waiting(self) -> int:
        return self.broker.get_queue_message_counts("quick")[0]


TestBroker = pytest.mark.usefixtures("_server")(BrokerMachine.TestCase)
TestBroker.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
