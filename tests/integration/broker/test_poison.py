"""Ten kinds of poison: each ends as a dead letter with its reason, and healthy jobs go on beside it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import DeadReason, JetStreamBroker, dead_letter
from tests.integration.broker import poisons
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import Workers, message, publish_raw, wait_until

_MODULE = poisons.__name__


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """Takes less than our default limit, so that a message can outgrow it."""
    configuration = tmp_path / "nats.conf"
    configuration.write_text(f"max_payload: {poisons.MAX_PAYLOAD_BYTES}\n")
    server = NatsServer(tmp_path / "nats", "-c", str(configuration))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def supervised(server: NatsServer, workers: Workers) -> Iterator[Workers]:
    """Two command lines of workers, each started again when it ends, as a cluster would."""
    stopping = threading.Event()

    def supervise() -> None:
        mine: subprocess.Popen[bytes] | None = None
        while not stopping.wait(0.1):
            if mine is None or mine.poll() is not None:
                mine = workers.start(threads=2, module=_MODULE)

    supervisors = [threading.Thread(target=supervise) for _ in range(2)]
    for supervisor in supervisors:
        supervisor.start()
    yield workers
    stopping.set()
    for supervisor in supervisors:
        supervisor.join()


@pytest.mark.parametrize("poison", ["leave", "segfault", "memory_bomb", "hold_the_lock", "deep_recursion"])
def test_a_job_that_takes_its_worker_down_is_dead_after_three_deaths_while_others_go_on(
    broker: JetStreamBroker, supervised: Workers, poison: str
) -> None:
    healthy = 40
    broker.enqueue(message(poison, poison))
    for number in range(healthy):
        broker.enqueue(message("work", f"healthy{number}", 0.05))

    def dead() -> list[Any]:
        poisons.kill_the_greedy(supervised)
        return dead_letter.list_dead(broker)

    (letter,) = wait_until(dead, 60, "the poison is a dead letter")
    assert (letter.reason, letter.actor) == (DeadReason.CRASH_LOOP, poison)
    assert supervised.count("start", poison) == 3
    broker.join("quick", timeout=20_000)
    assert all(supervised.count("end", f"healthy{number}") >= 1 for number in range(healthy))
    assert len(dead_letter.list_dead(broker)) == 1


def test_what_no_worker_can_run_or_end_is_dead_at_once_while_others_go_on(
    broker: JetStreamBroker, supervised: Workers
) -> None:
    publish_raw(broker, b"\xff\xfe\x00")
    broker.enqueue(message("nobody_knows"))
    publish_raw(broker, message("work").encode(), {"Dramatiq-Format": "99"})
    broker.enqueue(poisons.grown("quick"))
    broker.enqueue(message("unpicklable", "unpicklable"))
    broker.enqueue(message("work", "healthy"))
    wait_until(lambda: broker.get_queue_message_counts("quick") == (0, 0, 5))
    letters = dead_letter.list_dead(broker)
    assert {(letter.reason, letter.actor) for letter in letters} == {
        (DeadReason.UNDECODABLE, None),
        (DeadReason.UNKNOWN_ACTOR, "nobody_knows"),
        (DeadReason.FUTURE_VERSION, None),
        (DeadReason.REJECTED, "grow"),
        (DeadReason.RESULT_NOT_STORABLE, "unpicklable"),
    }
    (outgrown,) = (letter for letter in letters if letter.actor == "grow")
    assert outgrown.error_class == "brokers.jetstream.errors.MessageTooLargeError"
    assert [supervised.count("start", poison) for poison in ("grow", "unpicklable")] == [1, 1]
    assert supervised.count("start", "healthy") == supervised.count("end", "healthy") == 1
