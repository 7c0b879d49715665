"""A process that cannot speak for itself keeps what it runs; one that is gone or stopped does not."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from brokers import BrokerOptions, JetStreamBroker, inspect, topology
from brokers.jetstream import lifeline
from brokers.jetstream.lifeline import Lifeline
from brokers.jetstream.message import Delivery
from tests.integration.broker import frozen
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import (
    QUEUES,
    StartWorker,
    Workers,
    declare,
    make_options,
    message,
    wait_until,
)

_FROZEN_SECONDS = 11  # more than twice ack_wait, and long after the server gave up on the connection


@pytest.fixture
def strict_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Drops whoever does not answer its pings; the usual server does so after some minutes."""
    configuration = tmp_path / "nats.conf"
    configuration.write_text('ping_interval: "1s"\nping_max: 2\n')
    server = NatsServer(tmp_path / "strict", "-c", str(configuration))
    server.start()
    yield server
    server.kill()


def pulses_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if _is_pulse(child)]


def own_pulses() -> list[psutil.Process]:
    """Those of a worker in this process; its children can be other tests' workers, with pulses of theirs."""
    return [child for child in psutil.Process().children() if _is_pulse(child)]


def _is_pulse(process: psutil.Process) -> bool:
    try:
        return any(part.endswith("pulse.py") for part in process.cmdline())
    except psutil.Error:
        return False


def test_jobs_that_hold_the_interpreters_lock_past_ack_wait_are_done_once(
    strict_server: NatsServer, tmp_path: Path
) -> None:
    workers, options = (
        Workers(strict_server.url, tmp_path / "history"),
        make_options(strict_server.url),
    )
    topology.apply(options, frozen.QUEUES)
    broker = JetStreamBroker(options, frozen.QUEUES)
    try:
        for program in ("dramatiq", "dramatiq-gevent"):
            workers.start(threads=1, program=program, module=frozen.__name__)
            before = workers.count("start")
            broker.enqueue(message("freeze", program, _FROZEN_SECONDS, queue="patient"))
            wait_until(functools.partial(_has_more, workers, before))
        workers.start(threads=1, module=frozen.__name__)  # looks for messages of the gone, and has time
        broker.join("patient", timeout=60_000)
        consumer = broker.connection.run(broker.connection.session().api("CONSUMER.INFO.PATIENT.patient"))
    finally:
        broker.close()
        workers.stop_all()
    assert [workers.count(*line) for line in (("start",), ("end",), ("dead",))] == [2, 2, 0]
    assert consumer["delivered"]["consumer_seq"] == 2


def _has_more(workers: Workers, before: int) -> bool:
    return workers.count("start") > before


def test_the_jobs_of_a_stopped_worker_are_not_kept_by_its_pulse(
    broker: JetStreamBroker, workers: Workers
) -> None:
    first = workers.start(threads=1)
    broker.enqueue(message("work", "a", 60))
    wait_until(lambda: workers.count("start") == 1)
    (pulse,) = pulses_of(first.pid)
    os.kill(pulse.ppid(), signal.SIGSTOP)
    workers.start(threads=1)
    wait_until(lambda: workers.count("start") == 2, 30)


def test_what_a_stopped_and_a_killed_worker_had_not_begun_is_begun_once_by_others(
    broker: JetStreamBroker, workers: Workers
) -> None:
    fetched = {name: [f"{name}{number}" for number in range(3)] for name in ("stopped", "killed")}
    running = {}
    for name, behind in fetched.items():  # each is full with what it gets
        running[name] = workers.start(threads=1, prefetch=4)
        broker.enqueue(message("hold", name))
        wait_until(functools.partial(workers.count, "start", name))
        for one in behind:
            broker.enqueue(message("work", one))
        wait_until(functools.partial(_in_flight, broker, 4 * len(running)))
    os.killpg(running["stopped"].pid, signal.SIGSTOP)
    workers.kill(running["killed"])
    for name in fetched:
        workers.history.with_name(name).touch()
    other = workers.start(threads=2)
    names = [*fetched, *fetched["stopped"], *fetched["killed"]]
    wait_until(lambda: all(workers.count("end", name) for name in names))
    broker.join("quick", timeout=30_000)
    workers.kill(other)
    os.killpg(running["stopped"].pid, signal.SIGCONT)
    broker.enqueue(message("work", "afterwards"))  # behind what it had fetched, and all is quiet after it
    wait_until(lambda: workers.count("end", "afterwards"))
    broker.join("quick", timeout=30_000)
    assert [workers.count("start", name) for name in names] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert workers.count("dead") == 0


def _in_flight(broker: JetStreamBroker, number: int) -> bool:
    return inspect.depths(broker)[0].in_flight == number


def test_the_pulse_ends_with_its_worker(broker: JetStreamBroker, workers: Workers) -> None:
    command_line = workers.start(processes=2)
    pulses = wait_until(lambda: len(found := pulses_of(command_line.pid)) == 2 and found)
    for worker in {pulse.ppid() for pulse in pulses}:
        os.kill(worker, signal.SIGKILL)
    assert psutil.wait_procs(pulses, 30)[1] == []


def test_a_pulse_that_ended_by_itself_is_replaced_and_close_ends_it(
    broker: JetStreamBroker,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lifeline, "_AGAIN_SECONDS", 0.1)
    declare(broker, lambda: None, actor_name="job")
    start_worker()
    (first,) = wait_until(own_pulses)
    with caplog.at_level(logging.WARNING):
        first.kill()
        (second,) = wait_until(lambda: [pulse for pulse in own_pulses() if pulse != first])
    assert "ended by itself" in caplog.text
    broker.close()
    assert not second.is_running()


def test_without_the_option_there_is_no_pulse(server: NatsServer, broker: JetStreamBroker) -> None:
    quiet = JetStreamBroker(make_options(server.url, pulse=False), broker.specs.values())
    quiet.worker_threads = 1
    quiet.consume("quick").close()
    assert quiet.running().holdings.lifeline is None
    quiet.close()


def test_where_no_memory_without_a_name_is_allowed_the_pulse_has_a_file(
    broker: JetStreamBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", _forbidden)
    declare(broker, lambda: None, actor_name="job")
    start_worker()
    wait_until(own_pulses)


def test_a_worker_that_gets_no_memory_to_share_works_without_a_pulse_and_says_what_that_means(
    broker: JetStreamBroker,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "memfd_create", _forbidden)
    monkeypatch.setattr(tempfile, "mkstemp", _forbidden)
    done: list[int] = []
    declare(broker, lambda: done.append(1), actor_name="job").send()
    with caplog.at_level(logging.WARNING):
        start_worker()
        wait_until(lambda: done)
    assert "no pulse; a process that native code freezes past ack_wait loses what it runs" in caplog.text
    assert own_pulses() == []


def _forbidden(*_: object) -> int:
    raise PermissionError("not here")


@pytest.fixture
def told() -> list[tuple[str, str]]:
    """What the broker says of itself."""
    return []


def stand_still(options: BrokerOptions, caplog: pytest.LogCaptureFixture, said: Callable[[], str]) -> str:
    """A process with one job whose loop stands still until its pulse has said so; what was said."""
    line, heard = Lifeline(options, QUEUES), list[str]()

    def is_noticed() -> bool:
        heard.append(said())
        return "\n" in "".join(heard)

    def is_back() -> bool:
        line._stamp()
        line._hear()
        return bool(caplog.messages)

    try:
        line.hold(Delivery(QUEUES[0], "a.sign.of.life", 1, 1, b"", {}))
        wait_until(is_noticed)
        wait_until(is_back)
    finally:
        line._end()
    return "".join(heard)


def test_what_the_pulse_kept_is_said_at_once_and_told_when_the_process_is_back(
    server: NatsServer,
    told: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fields = {"service": "worker", "version": "1"}
    options = make_options(server.url, on_event=lambda *what: told.append(what), log_fields=fields)
    line = json.loads(stand_still(options, caplog, lambda: capfd.readouterr().err))
    assert list(line)[:6] == ["timestamp", "level", "message", "service", "version", "request_id"]
    assert (line["level"], line["service"]) == ("WARNING", "worker")
    assert "its pulse keeps what it runs" in line["message"]
    assert told == [("frozen", "quick")]
    assert "its pulse kept 1 messages from redelivery; 0 could not" in caplog.text


def test_what_the_pulse_could_not_keep_is_told_with_the_cause(
    told: list[tuple[str, str]], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    options = make_options("nats://127.0.0.1:9", on_event=lambda *what: told.append(what))
    said = stand_still(options, caplog, lambda: capfd.readouterr().err)
    assert "cannot keep its jobs" in said
    assert told == [("frozen-lost", "quick")]
    assert "kept 0 messages from redelivery; 1 could not" in caplog.text
    assert said.partition("cannot keep its jobs: ")[2].partition("\n")[0] in caplog.text
