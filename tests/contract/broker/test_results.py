"""One suite for Dramatiq's in-memory result backend on its stub broker, and for ours on ours and its twin."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.encoder import PickleEncoder
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import GroupCallbacks, Middleware
from dramatiq.rate_limits.backends import StubBackend as StubLimits
from dramatiq.results import ResultBackend, ResultFailure, ResultMissing, Results, ResultTimeout
from dramatiq.results.backends import StubBackend

from brokers import (
    BrokerOptions,
    JetStreamBroker,
    JetStreamRateLimiterBackend,
    JetStreamResultBackend,
    JetStreamStubBroker,
    QueueSpec,
    ResultNotStorableError,
    TopologyError,
    dead_letter,
    default_middleware,
    inspect,
    topology,
)
from brokers.jetstream import kv
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import make_options, message, wait_until

make_group: Any = dramatiq.group
make_pipeline: Any = dramatiq.pipeline
QUEUES = [QueueSpec(name="default", stream="DEFAULT", ack_wait_seconds=5)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(Path(tmp_path_factory.mktemp("nats")))
    server.start()
    topology.apply(make_options(server.url), QUEUES)
    yield server
    server.kill()


@pytest.fixture
def ours(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[JetStreamBroker]:
    made = JetStreamBroker(make_options(server.url, backoff_seconds=(0.02,)), QUEUES)
    made.flush("default")
    yield from with_our_backends(made, monkeypatch)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Iterator[JetStreamBroker]:
    yield from with_our_backends(
        JetStreamStubBroker(BrokerOptions(backoff_seconds=(0.02,)), QUEUES), monkeypatch
    )


def with_our_backends(made: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[JetStreamBroker]:
    made.add_middleware(GroupCallbacks(JetStreamRateLimiterBackend(made)))
    made.add_middleware(Results(backend=JetStreamResultBackend(made)))  # type: ignore[no-untyped-call]
    monkeypatch.setattr("dramatiq.broker.global_broker", made)
    yield made
    made.close()


@pytest.fixture(params=["stub", "twin", "ours"])
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    if request.param != "stub":
        yield request.getfixturevalue(request.param)
        return
    options = BrokerOptions(backoff_seconds=(0.02,))
    made = StubBroker(middleware=default_middleware(options), fail_fast_default=False)
    made.add_middleware(GroupCallbacks(StubLimits()))  # type: ignore[no-untyped-call]
    made.add_middleware(Results(backend=StubBackend()))  # type: ignore[no-untyped-call]
    monkeypatch.setattr("dramatiq.broker.global_broker", made)
    yield made
    made.close()


@pytest.fixture
def start_worker() -> Iterator[Callable[[Broker], dramatiq.Worker]]:
    started: list[dramatiq.Worker] = []

    def start(broker: Broker) -> dramatiq.Worker:
        started.append(dramatiq.Worker(broker, worker_threads=2, worker_timeout=50))
        started[-1].start()
        return started[-1]

    yield start
    for worker in started:
        worker.stop(timeout=2000)


Start = Callable[[Broker], dramatiq.Worker]


def declare(broker: Broker, function: Callable[..., Any], **options: Any) -> Any:
    kept = {"store_results": True} if "store_results" in broker.actor_options else {}
    values = {"actor_name": "job", "max_retries": 0, **kept, **options}
    decorate: Any = dramatiq.actor(broker=broker, **values)
    return decorate(function)


def backend_of(broker: Broker) -> Any:
    return broker.get_results_backend()


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": [1, None, "ü"]}, "x" * 600_000])
def test_what_a_job_returns_is_its_result(broker: Broker, start_worker: Start, value: Any) -> None:
    job = declare(broker, lambda: value)
    start_worker(broker)
    assert job.send().get_result(backend=backend_of(broker), block=True) == value


def test_a_failed_job_gives_its_error(broker: Broker, start_worker: Start) -> None:
    def job() -> None:
        raise KeyError("nothing here")

    sent = declare(broker, job).send()
    start_worker(broker)
    with pytest.raises(ResultFailure, match="KeyError") as caught:
        sent.get_result(backend=backend_of(broker), block=True)
    assert (caught.value.orig_exc_type, caught.value.orig_exc_msg) == ("KeyError", "'nothing here'")


def test_a_job_that_did_not_run_has_no_result(broker: Broker) -> None:
    sent = declare(broker, lambda: 1).send()
    with pytest.raises(ResultMissing):
        sent.get_result(backend=backend_of(broker))


@pytest.mark.parametrize("timeout", [0, 300])
def test_waiting_for_a_result_ends(broker: Broker, timeout: int) -> None:
    sent = declare(broker, lambda: 1).send()
    with pytest.raises(ResultTimeout):
        sent.get_result(backend=backend_of(broker), block=True, timeout=timeout)


def test_a_group_gives_the_results_of_its_children(broker: Broker, start_worker: Start) -> None:
    job = declare(broker, lambda x: x * x)
    group = make_group([job.message(n) for n in range(5)], broker=broker).run()
    start_worker(broker)
    assert list(group.get_results(block=True, timeout=20_000)) == [0, 1, 4, 9, 16]
    assert group.completed


def test_a_pipeline_gives_the_result_of_its_last_step(broker: Broker, start_worker: Start) -> None:
    job = declare(broker, lambda x, y: x + y)
    steps = make_pipeline([job.message(1, 2), job.message(4), job.message(8)], broker=broker).run()
    start_worker(broker)
    assert steps.get_result(block=True, timeout=20_000) == 15
    assert steps.completed_count == 3


def test_a_group_calls_its_completion_callback_once(broker: Broker, start_worker: Start) -> None:
    done: list[int] = []
    callback = declare(broker, lambda: done.append(sum(finished)), actor_name="callback")
    finished: list[int] = []
    job = declare(broker, lambda _: finished.append(1))
    group = make_group([job.message(n) for n in range(10)], broker=broker)
    group.add_completion_callback(callback.message())
    group.run()
    worker = start_worker(broker)
    wait_until(lambda: done)
    broker.join("default", timeout=10_000)
    worker.join()
    assert done == [10]


def test_a_result_is_gone_after_its_ttl(broker: Broker, start_worker: Start) -> None:
    sent = declare(broker, lambda: 7, result_ttl=1000).send()
    start_worker(broker)
    assert sent.get_result(backend=backend_of(broker), block=True) == 7
    wait_until(lambda: missing(broker, sent))


def missing(broker: Broker, sent: Any) -> bool:
    try:
        sent.get_result(backend=backend_of(broker))
    except ResultMissing:
        return True
    return False


def test_the_server_forgets_a_result_that_nobody_asks_for(ours: JetStreamBroker) -> None:
    backend = backend_of(ours)
    backend.connection.run(backend._bucket().remove(">"))
    backend.store_result(message("job"), 1, 1000)
    backend.store_result(message("job"), 2, 60_000)
    assert stored(ours) == 2
    wait_until(lambda: stored(ours) == 1)


def stored(broker: JetStreamBroker) -> int:
    info = broker.connection.run(broker.connection.session().api("STREAM.INFO.KV_transforms_results"))
    return int(info["state"]["messages"])


def test_a_forgotten_result_is_missing(ours: JetStreamBroker) -> None:
    backend, kept, dropped = backend_of(ours), message("job"), message("job")
    backend.store_result(kept, 1, 60_000)
    backend.store_result(dropped, 2, 60_000)
    backend.forget(dropped)
    backend.forget(dropped)
    assert backend.get_result(kept) == 1
    with pytest.raises(ResultMissing):
        backend.get_result(dropped)


def test_who_waits_for_a_result_asks_seldom(ours: JetStreamBroker, server: NatsServer) -> None:
    before = server.monitor("jsz")["api"]["total"]
    with pytest.raises(ResultTimeout):
        backend_of(ours).get_result(message("job"), block=True, timeout=2500)
    assert server.monitor("jsz")["api"]["total"] - before < 20


def test_who_waits_for_a_result_hears_of_it(ours: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    look, looks = kv.Bucket._look, list[str]()

    async def count(bucket: kv.Bucket, key: str, limit_seconds: float) -> Any:
        looks.append(key)
        return await look(bucket, key, limit_seconds)

    monkeypatch.setattr(kv.Bucket, "_look", count)
    monkeypatch.setattr(kv, "_LONGEST_PAUSE_SECONDS", 60.0)
    backend, late, found = backend_of(ours), message("job"), list[Any]()
    waiting = threading.Thread(
        target=lambda: found.append(backend.get_result(late, block=True, timeout=20_000))
    )
    waiting.start()
    wait_until(lambda: len(looks) == 9)  # the next one is two and a half seconds away
    backend.store_result(late, "there", 60_000)
    wait_until(lambda: found, 1.5)
    waiting.join()
    assert found == ["there"]


@pytest.mark.parametrize("began", ["before", "during"])
def test_a_wait_outlasts_an_outage(tmp_path: Path, began: str) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    options = make_options(server.url)
    topology.apply(options, QUEUES)
    backend, late = JetStreamResultBackend(options), message("job")
    outcome: list[Any] = []
    waiting = threading.Thread(
        target=lambda: outcome.append(backend.get_result(late, block=True, timeout=60_000))
    )
    if began == "before":
        waiting.start()
        wait_until(lambda: "$KV.transforms_results." in str(server.monitor("connz?subs=1")))
    server.kill()
    assert not stores(backend, late)  # the outage is noticed
    if began == "during":
        waiting.start()
        assert not stores(backend, late)  # and has lasted longer than a connection may take
    server.start()
    wait_until(lambda: stores(backend, late))
    waiting.join(30)
    backend.close()
    server.kill()
    assert outcome == ["late"]


def stores(backend: ResultBackend, late: Any) -> bool:
    try:
        backend.store_result(late, "late", 60_000)
    except BrokerConnectionError:
        return False
    return True


class Told(Middleware):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def after_dead_letter(self, broker: Any, message: Any, reason: Any, error: Any) -> None:
        self.reasons.append(str(reason))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({1, 2}, "a result of type set cannot be encoded by JSONEncoder"),
        ("x" * 1_000_000, r"1000002 bytes, more than max_message_bytes \(900000\)"),
    ],
)
def test_a_result_that_cannot_be_stored_makes_a_dead_letter_and_a_failure(
    ours: JetStreamBroker, start_worker: Start, value: Any, problem: str
) -> None:
    told = Told()
    ours.add_middleware(told)
    before = {letter.id for letter in dead_letter.list_dead(ours)}
    next_step = declare(ours, lambda _: None, actor_name="next_step")
    sent: Any = (declare(ours, lambda: value).message() | next_step.message()).messages[0]
    ours.enqueue(sent)
    start_worker(ours)
    with pytest.raises(ResultFailure, match=f"ResultNotStorableError: .*{problem}"):
        sent.get_result(backend=backend_of(ours), block=True)
    letter = next(letter for letter in dead_letter.list_dead(ours) if letter.id not in before)
    assert letter.reason == "result-not-storable"
    assert letter.message_id == sent.message_id
    assert letter.error_class == "brokers.jetstream.errors.ResultNotStorableError"
    assert len(letter.attempts) == 1
    ours.join("default", timeout=5000)  # nothing follows it, nothing is left
    assert told.reasons == ["result-not-storable"]


def test_a_result_over_the_servers_own_limit_makes_a_dead_letter(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 65536\n")
    server = NatsServer(tmp_path / "nats", "-c", str(config))
    server.start()
    options = make_options(server.url)
    topology.apply(options, QUEUES)
    backend = JetStreamResultBackend(options)
    with pytest.raises(ResultNotStorableError, match="the server does not take the result"):
        backend.store_result(message("job"), "x" * 100_000, 1000)
    backend.close()
    server.kill()


def test_an_error_text_of_any_length_fits_a_failure(ours: JetStreamBroker) -> None:
    backend, failed = backend_of(ours), message("job")
    backend.store_exception(failed, RuntimeError("x" * 2_000_000), 60_000)
    with pytest.raises(ResultFailure, match="RuntimeError: xxx"):
        backend.get_result(failed)


def test_a_job_whose_result_met_no_server_runs_again(
    tmp_path: Path, start_worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    options = make_options(server.url, connect_timeout_seconds=3.0, publish_timeout_seconds=3.0)
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    broker.add_middleware(Results(backend=JetStreamResultBackend(broker)))  # type: ignore[no-untyped-call]
    runs: list[int] = []

    def job() -> int:
        runs.append(1)
        if len(runs) == 1:
            server.kill()
        return len(runs)

    sent = declare(broker, job).send()
    worker = start_worker(broker)
    wait_until(lambda: "Unexpected failure in after_process_message" in caplog.text)
    server.start()
    assert sent.get_result(backend=backend_of(broker), block=True, timeout=30_000) == 2
    worker.stop(timeout=2000)
    assert inspect.depths(broker)[0].dead == 0
    broker.close()
    server.kill()


def test_a_group_whose_count_met_no_server_still_completes(
    tmp_path: Path, start_worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    options = make_options(server.url, connect_timeout_seconds=3.0, publish_timeout_seconds=3.0)
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    broker.add_middleware(GroupCallbacks(JetStreamRateLimiterBackend(broker)))
    runs: list[int] = []

    def job() -> None:
        runs.append(1)
        if len(runs) == 1:
            server.kill()

    done: list[int] = []
    callback = declare(broker, lambda: done.append(1), actor_name="callback")
    group = make_group([declare(broker, job).message()], broker=broker)
    group.add_completion_callback(callback.message())
    group.run()
    worker = start_worker(broker)
    wait_until(lambda: "Unexpected failure in after_process_message" in caplog.text)
    server.start()
    wait_until(lambda: done, 30)
    worker.stop(timeout=2000)
    broker.close()
    server.kill()


def test_without_a_server_the_error_is_dramatiqs() -> None:
    backend: Any = JetStreamResultBackend(
        make_options("nats://127.0.0.1:9", connect_timeout_seconds=0.3, publish_timeout_seconds=0.5)
    )
    for block in (False, True):
        with pytest.raises(BrokerConnectionError):
            backend.get_result(message("job"), block=block, timeout=500)
    with pytest.raises(BrokerConnectionError):
        backend.store_result(message("job"), 1, 1000)
    backend.close()


def test_without_a_bucket_the_error_names_it(server: NatsServer) -> None:
    backend = JetStreamResultBackend(make_options(server.url, results_bucket="nowhere"))
    for block in (False, True):
        with pytest.raises(TopologyError, match=r"no stream KV_nowhere: topology\.apply"):
            backend.get_result(message("job"), block=block)
    backend.close()


def test_another_encoder_and_readable_keys_may_be_chosen(server: NatsServer) -> None:
    backend: Any = JetStreamResultBackend(
        make_options(server.url), namespace="mine", encoder=PickleEncoder(), use_namespace_prefix_keys=True
    )
    sent = message("job")
    backend.store_result(sent, {1, 2}, 60_000)
    assert backend.get_result(sent) == {1, 2}
    found = backend.connection.run(backend._bucket().read(">"))
    assert found.subject == f"$KV.transforms_results.mine=3Aquick=3Ajob=3A{sent.message_id}"
    with pytest.raises(ResultNotStorableError, match="PickleEncoder"):
        backend.store_result(sent, threading.Lock(), 60_000)
    backend.close()


def test_a_forked_child_stores_what_its_parent_reads(ours: JetStreamBroker) -> None:
    backend, sent = backend_of(ours), message("job")
    backend.store_result(message("job"), "parent's", 60_000)
    child = multiprocessing.get_context("fork").Process(
        target=backend.store_result, args=(sent, "child's", 60_000)
    )
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert backend.get_result(sent) == "child's"


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from dramatiq import Message
from brokers import BrokerOptions, JetStreamResultBackend
backend = JetStreamResultBackend(BrokerOptions(servers=sys.argv[1]))
sent = [Message("default", "job", (), {}, {}) for _ in range(20)]
waiting = [gevent.spawn(backend.get_result, each, block=True, timeout=20_000) for each in sent]
gevent.sleep(0.5)
storing = [gevent.spawn(backend.store_result, each, n, 60_000) for n, each in enumerate(sent)]
gevent.joinall([*waiting, *storing], timeout=40)
print([g.value for g in waiting] == list(range(20)))
backend.close()
"""


def test_greenlets_wait_beside_each_other(ours: JetStreamBroker, server: NatsServer) -> None:
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", GREENLETS, server.url],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.strip() == "True", ran.stderr
