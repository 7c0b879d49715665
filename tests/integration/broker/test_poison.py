"""Ten kinds of poison: each ends as a dead letter with its reason, and healthy jobs go on beside it.

An operator finds each of them in the index, and what can be read at all runs once the cause is mended.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from app.errors import ConflictError
from app.storage.postgres.session import Database
from brokers import DeadReason, JetStreamBroker, dead_letter
from tests.integration.broker import poisons
from tests.integration.broker.desk import Desk
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
                with contextlib.suppress(AssertionError):  # killed while it booted: another one is started
                    mine = workers.start(threads=2, module=_MODULE)

    supervisors = [threading.Thread(target=supervise) for _ in range(2)]
    for supervisor in supervisors:
        supervisor.start()
    yield workers
    stopping.set()
    for supervisor in supervisors:
        supervisor.join()


@pytest.fixture
def desk(broker: JetStreamBroker, database: Database) -> Desk:
    return Desk(broker, database)


def mend(workers: Workers) -> None:
    """Put the causes right: processes from now on do no harm and know all kinds; those of before end."""
    workers.history.with_name("mended").touch()
    for worker in workers.running:
        if worker.poll() is None:
            workers.kill(worker)


def named(sent: dramatiq.Message[Any]) -> dramatiq.Message[Any]:
    """With an id that is none of a job, as the product's are: these have no row in Postgres."""
    return sent.copy(message_id=f"the-{sent.actor_name}-{sent.args[0][:9]}")


@pytest.mark.parametrize("poison", ["leave", "segfault", "memory_bomb", "hold_the_lock", "deep_recursion"])
def test_a_job_that_takes_its_worker_down_is_dead_after_three_deaths_while_others_go_on(
    broker: JetStreamBroker, supervised: Workers, desk: Desk, poison: str
) -> None:
    healthy = 40
    broker.enqueue(named(message(poison, poison)))
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
    assert [each.message_id for each in dead_letter.list_dead(broker)] == [letter.message_id]

    (found,) = desk.letters().values()
    assert (found.reason, found.actor, found.sequence) == (DeadReason.CRASH_LOOP, poison, letter.id)
    mend(supervised)
    assert desk.replay(found).state == "replayed"
    wait_until(lambda: supervised.count("end", poison), 60, "the replayed job runs to its end")


def test_what_cannot_run_here_is_dead_for_its_own_reason_and_runs_once_it_can(
    broker: JetStreamBroker, supervised: Workers, desk: Desk
) -> None:
    publish_raw(broker, b"\xff\xfe\x00")
    publish_raw(broker, named(message("work", "newer")).encode(), {"Dramatiq-Format": "99"})
    for sent in (
        message("nobody_knows", "unknown"),
        poisons.grown("quick"),
        message("unpicklable", "unpicklable"),
        message("segfault", "late", deadline=1),
        message("work", "healthy"),
    ):
        broker.enqueue(named(sent))
    wait_until(lambda: broker.get_queue_message_counts("quick") == (0, 0, 6), 60)
    assert supervised.count("start", "healthy") == supervised.count("end", "healthy") == 1

    found = desk.letters()
    assert {reason: letter.actor for reason, letter in found.items()} == {
        DeadReason.UNDECODABLE: None,
        DeadReason.FUTURE_VERSION: None,
        DeadReason.UNKNOWN_ACTOR: "nobody_knows",
        DeadReason.EXPIRED: "segfault",
        DeadReason.REJECTED: "grow",
        DeadReason.RESULT_NOT_STORABLE: "unpicklable",
    }
    assert found[DeadReason.REJECTED].error_class == "brokers.jetstream.errors.MessageTooLargeError"
    assert [supervised.count("start", poison) for poison in ("grow", "unpicklable")] == [1, 1]
    mend(supervised)
    never = {reason: found.pop(reason) for reason in (DeadReason.UNDECODABLE, DeadReason.REJECTED)}
    with pytest.raises(ConflictError, match="is not a message"):
        desk.replay(never[DeadReason.UNDECODABLE])
    with pytest.raises(ConflictError, match="bytes were cut off"):
        desk.replay(never[DeadReason.REJECTED])
    content = desk.content(never[DeadReason.UNDECODABLE])
    assert content is not None
    assert content.payload_hex == "ff fe 00"
    for letter in found.values():
        desk.replay(letter)
    names = ("newer", "unknown", "late", "unpicklable")
    wait_until(lambda: all(supervised.count("end", name) for name in names), 60, "all of them run")
    assert desk.letters() == never
