"""Real processes around the broker: Dramatiq's command lines, and gunicorn with each kind of worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from brokers import JetStreamBroker, dead_letter
from tests.integration.broker import recycled
from tests.integration.broker.server import NatsServer
from tests.integration.broker.web import Gunicorn
from tests.integration.broker.workers import Workers, message, wait_until

WORKER_CLASSES = ["sync", "gthread", "gevent"]


def send(broker: JetStreamBroker, names: list[str], seconds: float) -> None:
    """Jobs of the queue with a long ack_wait: a slow machine must not look like a dead worker."""
    for name in names:
        broker.enqueue(message("work_other", name, seconds, queue="other"))


def assert_each_once(
    broker: JetStreamBroker, workers: Workers, names: list[str], seconds: float = 25
) -> None:
    """Within less than the queue's ack_wait (30 s): what is lost on the way would come after it."""
    broker.join("other", timeout=int(seconds * 1000))
    started = [line[1] for line in workers.lines() if line[0] == "start"]
    ended = [line[1] for line in workers.lines() if line[0] == "end"]
    assert sorted(started) == sorted(ended) == sorted(names)
    assert dead_letter.list_dead(broker) == []


def processes_of(workers: Workers) -> set[str]:
    return {line[-2] for line in workers.lines() if line[0] == "end"}


def test_two_processes_with_four_threads_do_every_job_once(broker: JetStreamBroker, workers: Workers) -> None:
    workers.start(processes=2, threads=4)
    names = [f"job{number}" for number in range(200)]
    send(broker, names, 0.01)
    assert_each_once(broker, workers, names)
    assert len(processes_of(workers)) == 2


def test_a_hot_restart_under_load_loses_nothing_and_doubles_nothing(
    broker: JetStreamBroker, workers: Workers
) -> None:
    command_line = workers.start(processes=2, threads=4, prefetch=12)
    names = [f"job{number}" for number in range(160)]
    send(broker, names, 0.1)  # about two seconds of work, so that much is in hand at the restart
    wait_until(lambda: workers.count("end") >= 10)
    command_line.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 40
    while workers.count("boot") < 4:
        assert time.monotonic() < deadline, "the workers do not come back"
        names.append(f"job{len(names)}")
        send(broker, names[-1:], 0.05)
        time.sleep(0.02)
    names += (after := [f"after{number}" for number in range(20)])
    send(broker, after, 0.05)
    assert_each_once(broker, workers, names)
    assert len(processes_of(workers)) > 2
    assert command_line.poll() is None


def test_processes_that_are_replaced_after_some_jobs_lose_nothing_and_double_nothing(
    broker: JetStreamBroker, workers: Workers
) -> None:
    # A process does 20 a second and goes on for about one after its request: two generations.
    names = [f"job{number}" for number in range(100)]
    send(broker, names, 0.2)
    workers.start(processes=2, threads=4, module=recycled.__name__)
    assert_each_once(broker, workers, names, seconds=120)  # the command line boots anew, on busy cores
    wait_until(lambda: workers.count("boot") >= 4)


def test_under_gevent_many_greenlets_wait_at_the_same_time(broker: JetStreamBroker, workers: Workers) -> None:
    workers.start(processes=1, threads=50, program="dramatiq-gevent")
    names = [f"job{number}" for number in range(100)]
    begin = time.monotonic()
    send(broker, names, 1.0)
    assert_each_once(broker, workers, names)
    assert time.monotonic() - begin < 50  # one after the other would take 100 s


@pytest.fixture
def serve(server: NatsServer, tmp_path: Path, broker: JetStreamBroker) -> Iterator[Callable[..., Gunicorn]]:
    running: list[Gunicorn] = []

    def start(worker_class: str, *, preload: bool = False) -> Gunicorn:
        folder = tmp_path / "web"
        folder.mkdir()
        running.append(Gunicorn(server.url, folder, worker_class, preload=preload))
        return running[-1]

    yield start
    for gunicorn in running:
        gunicorn.stop()


def drain(broker: JetStreamBroker) -> list[str]:
    """Run what was enqueued; the names of the jobs."""
    names: list[str] = []
    declare: Any = dramatiq.actor(broker=broker, queue_name="quick", actor_name="work")
    declare(names.append)
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=100)
    worker.start()
    broker.join("quick", timeout=30_000)
    worker.stop()
    return sorted(names)


@pytest.mark.parametrize("preload", [False, True], ids=["each-loads", "preloaded"])
@pytest.mark.parametrize("worker_class", WORKER_CLASSES)
def test_every_request_to_gunicorn_becomes_one_job(
    broker: JetStreamBroker, serve: Callable[..., Gunicorn], worker_class: str, preload: bool
) -> None:
    gunicorn = serve(worker_class, preload=preload)
    names = [f"job{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(gunicorn.ask, names))
    assert {status for status, _ in answers} == {200}, answers
    assert str(gunicorn.process.pid) not in {text for _, text in answers}
    assert drain(broker) == sorted([*names, *(["load"] if preload else [])])


@pytest.mark.parametrize("worker_class", WORKER_CLASSES)
def test_a_request_while_the_server_is_away_gets_an_error_quickly_and_later_ones_work_again(
    broker: JetStreamBroker, server: NatsServer, serve: Callable[..., Gunicorn], worker_class: str
) -> None:
    gunicorn = serve(worker_class)
    assert gunicorn.ask("before")[0] == 200
    server.kill()
    begin = time.monotonic()
    status, text = gunicorn.ask("during")
    assert time.monotonic() - begin < 25  # 5 s by the options; never gunicorn's own 30 s
    assert status == 503
    assert "the NATS server does not answer" in text
    server.start()
    tried = iter(range(1000))
    last = wait_until(lambda: next((n for n in [f"after{next(tried)}"] if gunicorn.ask(n)[0] == 200), None))
    jobs = drain(broker)
    assert jobs.count("before") == jobs.count(last) == 1
    assert "during" not in jobs


def test_gunicorn_goes_on_when_one_of_its_workers_is_killed(
    broker: JetStreamBroker, serve: Callable[..., Gunicorn]
) -> None:
    gunicorn = serve("gthread", preload=True)
    killed = int(gunicorn.ask("before")[1])
    os.kill(killed, signal.SIGKILL)
    answer = wait_until(lambda: _answered_by_another(gunicorn, killed))
    assert answer == 200
    assert {"before", "load"} <= set(drain(broker))


def _answered_by_another(gunicorn: Gunicorn, killed: int) -> int | None:
    try:
        status, pid = gunicorn.ask("after")
    except OSError:
        return None
    return status if pid != str(killed) else None
