"""One suite for Dramatiq's stub broker and for ours: what users of Dramatiq rely on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage, SkipMessage
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from brokers import BrokerOptions, JetStreamBroker, QueueSpec, ScheduledRetries, default_middleware, topology
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import make_options

QUEUES = [QueueSpec(name="default", stream="DEFAULT", ack_wait_seconds=5)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(Path(tmp_path_factory.mktemp("nats")))
    server.start()
    topology.apply(make_options(server.url), QUEUES)
    yield server
    server.kill()


@pytest.fixture(params=["stub", "jetstream"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    made: Broker
    if request.param == "stub":
        options = BrokerOptions(backoff_seconds=(0.02,))
        made = StubBroker(middleware=default_middleware(options), fail_fast_default=False)
    else:
        options = make_options(request.getfixturevalue("server").url, backoff_seconds=(0.02,))
        made = JetStreamBroker(options, QUEUES)
        made.flush("default")
    yield made
    made.close()


@pytest.fixture
def run(broker: Broker) -> Iterator[Callable[[], None]]:
    workers: list[dramatiq.Worker] = []

    def start_and_drain() -> None:
        if not workers:
            workers.append(dramatiq.Worker(broker, worker_threads=2, worker_timeout=50))
            workers[0].start()
        broker.join("default", timeout=10_000)
        workers[0].join()

    yield start_and_drain
    for worker in workers:
        worker.stop(timeout=2000)


def declare(broker: Broker, function: Callable[..., Any], **options: Any) -> Any:
    decorate: Any = dramatiq.actor(broker=broker, **{"actor_name": "job", **options})
    return decorate(function)


def test_arguments_arrive_as_they_were_sent(broker: Broker, run: Callable[[], None]) -> None:
    seen: list[Any] = []
    job = declare(broker, lambda *args, **kwargs: seen.append((args, kwargs)))
    job.send(1, "zwei", [3], key={"four": None})
    run()
    assert seen == [((1, "zwei", [3]), {"key": {"four": None}})]


def test_max_retries_bounds_the_attempts(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise RuntimeError("always")

    declare(broker, job, max_retries=2).send()
    run()
    assert len(tries) == 3


def test_retry_when_decides_alone(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise KeyError("k") if len(tries) < 7 else ValueError("v")

    declare(broker, job, retry_when=lambda _, error: isinstance(error, KeyError)).send()
    run()
    assert len(tries) == 7


def test_what_is_in_throws_is_not_retried(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise KeyError("k")

    declare(broker, job, throws=(KeyError,)).send()
    run()
    assert len(tries) == 1


def test_a_retry_with_its_own_delay_is_not_an_error(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise dramatiq.Retry("later", delay=30)

    declare(broker, job).send()
    run()
    assert len(tries) == 3


def test_min_backoff_brings_back_dramatiqs_own_backoff(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise RuntimeError("always")

    declare(broker, job, max_retries=2, min_backoff=10, max_backoff=20).send()
    run()
    assert len(tries) == 3


def test_an_exhausted_message_is_told_to_its_actor(broker: Broker, run: Callable[[], None]) -> None:
    told: list[Any] = []
    declare(broker, lambda data, limits: told.append((data["args"], limits)), actor_name="exhausted")

    def job(word: str) -> None:
        raise RuntimeError(word)

    declare(broker, job, max_retries=1, on_retry_exhausted="exhausted").send("never")
    run()
    run()
    assert [limits for _, limits in told] == [{"retries": 1, "max_retries": 1}]


def test_callbacks_and_pipelines_follow_a_success(broker: Broker, run: Callable[[], None]) -> None:
    seen: list[Any] = []
    add = declare(broker, lambda x, y: x + y, actor_name="add")
    record = declare(broker, seen.append, actor_name="record")
    done = declare(broker, lambda _, result: seen.append(("done", result)), actor_name="done")
    steps: Any = dramatiq.pipeline([add.message(1, 2), add.message(4), record.message()], broker=broker)
    steps.run()
    add.send_with_options(args=(5, 6), on_success=done)
    run()
    run()
    assert sorted(map(str, seen)) == ["('done', 11)", "7"]


def test_results_are_stored_and_read(broker: Broker, run: Callable[[], None]) -> None:
    broker.add_middleware(Results(backend=StubBackend()))  # type: ignore[no-untyped-call]  # Dramatiq's
    sent = declare(broker, lambda x: x * 2, store_results=True).send(21)
    run()
    assert sent.get_result(backend=broker.get_results_backend()) == 42


def test_a_message_over_its_age_is_skipped(broker: Broker, run: Callable[[], None]) -> None:
    tries: list[int] = []
    declare(broker, lambda: tries.append(1), max_age=50).send_with_options(delay=200)
    run()
    assert tries == []


def test_a_skipped_message_leaves_the_queue(broker: Broker, run: Callable[[], None]) -> None:
    class Skip(dramatiq.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise SkipMessage("not today")

    tries: list[int] = []
    broker.add_middleware(Skip())
    declare(broker, lambda: tries.append(1)).send()
    run()
    assert tries == []


def test_a_job_over_its_time_limit_is_interrupted(broker: Broker, run: Callable[[], None]) -> None:
    ended: list[str] = []

    def job() -> None:
        pause = threading.Event()
        try:
            while not pause.wait(0.02):
                pass
        except dramatiq.middleware.TimeLimitExceeded:
            ended.append("interrupted")

    broker.emit_after("process_boot")
    declare(broker, job, time_limit=100).send()
    run()
    assert ended == ["interrupted"]


def test_the_current_message_is_known_inside_a_job(broker: Broker, run: Callable[[], None]) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[str] = []

    def job() -> None:
        current = CurrentMessage.get_current_message()
        assert current is not None
        seen.append(current.message_id)

    sent = declare(broker, job).send()
    run()
    assert seen == [sent.message_id]


def test_an_error_that_names_its_pause_waits_longer_than_the_schedule(broker: Broker) -> None:
    retries = next(m for m in broker.middleware if isinstance(m, ScheduledRetries))
    error = RuntimeError("429")
    error.retry_after_seconds = 7.5  # type: ignore[attr-defined]  # what an app's own errors carry
    actor = declare(broker, lambda: None)
    assert retries._delay_ms(actor.message(), actor, 0, error) == 7500
    assert retries._delay_ms(actor.message(), actor, 0, RuntimeError("x")) == 20
