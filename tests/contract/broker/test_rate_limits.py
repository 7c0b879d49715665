"""One suite for Dramatiq's in-memory rate-limiter backend, and ours on a server and on the stub twin."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from dramatiq.errors import BrokerConnectionError, RateLimitExceeded
from dramatiq.rate_limits import (
    Barrier,
    BucketRateLimiter,
    ConcurrentRateLimiter,
    WindowRateLimiter,
)
from dramatiq.rate_limits.backends import StubBackend

from brokers import (
    BrokerOptions,
    ContentionError,
    JetStreamRateLimiterBackend,
    JetStreamStubBroker,
    TopologyError,
    topology,
)
from brokers.jetstream import kv
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import make_options, wait_until

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(Path(tmp_path_factory.mktemp("nats")))
    server.start()
    topology.apply(make_options(server.url), [])
    yield server
    server.kill()


@pytest.fixture
def ours(server: NatsServer) -> Iterator[JetStreamRateLimiterBackend]:
    made = JetStreamRateLimiterBackend(make_options(server.url, publish_timeout_seconds=20.0))
    made.connection.run(made._bucket().remove(">"))
    yield made
    made.close()


@pytest.fixture
def twin() -> Iterator[JetStreamRateLimiterBackend]:
    made = JetStreamRateLimiterBackend(JetStreamStubBroker(BrokerOptions(), []))
    yield made
    made.close()


@pytest.fixture(params=["stub", "twin", "ours"])
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "stub":
        return StubBackend()  # type: ignore[no-untyped-call]  # Dramatiq's
    return request.getfixturevalue(request.param)


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `count` threads return that start at the same moment; what one raises is raised here."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def tried(limiter: Any) -> bool:
    with limiter.acquire(raise_on_failure=False) as acquired:
        return bool(acquired)


def test_a_key_is_added_once(backend: Any) -> None:
    assert backend.add("k", 5, DAY_MS) is True
    assert backend.add("k", 1, DAY_MS) is False
    assert backend.incr("k", 1, 6, DAY_MS) is True


def test_a_counter_stays_between_its_limits(backend: Any) -> None:
    assert [backend.incr("k", 2, 5, DAY_MS) for _ in range(3)] == [True, True, False]
    assert [backend.decr("k", 2, 0, DAY_MS) for _ in range(3)] == [True, True, False]


def test_a_sum_over_keys_stays_below_its_maximum(backend: Any) -> None:
    def keys() -> list[str]:
        return ["k@1", "k@2", "other"]

    assert backend.add("k@2", 2, DAY_MS)
    assert backend.add("other", 1, DAY_MS)
    assert [backend.incr_and_sum("k@1", keys, 1, 5, DAY_MS) for _ in range(3)] == [True, True, False]
    assert backend.decr("other", 1, 0, DAY_MS)
    assert backend.incr_and_sum("k@1", keys, 1, 5, DAY_MS)


def test_any_text_is_a_key_of_its_own(backend: Any) -> None:
    keys = [
        "a",
        "a@",
        "@a",
        "a@b",
        "a.b",
        "a b",
        "*",
        ">",
        "",
        "@",
        "ümlaut",
        "=",
        "_",
        "=20",
        "x" * 5000,
        "a/b",
    ]
    assert [backend.add(key, 1, DAY_MS) for key in keys] == [True] * len(keys)
    assert [backend.add(key, 1, DAY_MS) for key in keys] == [False] * len(keys)


def test_a_bucket_gives_its_limit_and_no_more_to_a_crowd(backend: Any) -> None:
    limiter: Any = BucketRateLimiter(backend, "bucket", limit=5, bucket=DAY_MS)  # type: ignore[no-untyped-call]
    assert sum(together(20, lambda _: tried(limiter))) == 5
    with pytest.raises(RateLimitExceeded), limiter.acquire():
        pass


def test_a_concurrent_limit_is_never_exceeded_by_a_crowd(backend: Any) -> None:
    limiter: Any = ConcurrentRateLimiter(backend, "mutex", limit=3)  # type: ignore[no-untyped-call]
    lock, inside, seen = threading.Lock(), [0], list[int]()

    def enter_and_leave(_: int) -> None:
        for _ in range(5):
            with limiter.acquire(raise_on_failure=False) as acquired:
                if acquired:
                    with lock:
                        inside[0] += 1
                        seen.append(inside[0])
                    time.sleep(0.005)
                    with lock:
                        inside[0] -= 1

    together(20, enter_and_leave)
    assert max(seen) <= 3
    with limiter.acquire(), limiter.acquire(), limiter.acquire():  # every place was given back
        assert not tried(limiter)


def test_a_window_gives_exactly_its_limit_to_a_crowd(backend: Any) -> None:
    limiter: Any = WindowRateLimiter(backend, "window", limit=7, window=600)  # type: ignore[no-untyped-call]
    assert sum(together(20, lambda _: tried(limiter))) == 7


def test_a_sum_is_exact_though_everybody_changes_another_key(backend: Any) -> None:
    """Clocks that differ by a second: each rival counts on a key of its own."""
    names = [f"skewed@{number}" for number in range(20)]
    admitted = together(20, lambda number: backend.incr_and_sum(names[number], lambda: names, 1, 7, DAY_MS))
    assert sum(admitted) == 7


def test_a_window_opens_again_when_it_has_passed(backend: Any) -> None:
    limiter: Any = WindowRateLimiter(backend, "short", limit=1, window=1)  # type: ignore[no-untyped-call]
    assert tried(limiter)
    wait_until(lambda: tried(limiter))


def test_a_place_that_was_never_given_back_is_free_after_its_ttl(backend: Any) -> None:
    limiter: Any = ConcurrentRateLimiter(backend, "lost", limit=1, ttl=1000)  # type: ignore[no-untyped-call]
    assert limiter._acquire()
    assert not limiter._acquire()
    wait_until(limiter._acquire)


def test_a_barrier_opens_for_the_last_of_its_parties(backend: Any) -> None:
    barrier: Any = Barrier(backend, "barrier")  # type: ignore[no-untyped-call]
    assert barrier.create(3)
    assert not barrier.create(3)
    assert [barrier.wait(block=False) for _ in range(3)] == [False, False, True]


def test_exactly_one_of_a_crowd_is_the_last_at_a_barrier(backend: Any) -> None:
    barrier: Any = Barrier(backend, "crowd")  # type: ignore[no-untyped-call]
    assert barrier.create(20)
    assert sum(together(20, lambda _: barrier.wait(block=False))) == 1


def test_who_waits_at_a_barrier_goes_on_when_the_last_one_comes(backend: Any) -> None:
    barrier: Any = Barrier(backend, "meeting")  # type: ignore[no-untyped-call]
    barrier.create(3)
    early: list[bool] = []
    waiting = [threading.Thread(target=lambda: early.append(barrier.wait(timeout=20_000))) for _ in range(2)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: not backend.decr("meeting", 0, 2, DAY_MS))  # both have arrived
    time.sleep(0.2)  # Dramatiq's stub tells only those who wait already
    assert barrier.wait(block=False)
    for thread in waiting:
        thread.join(15)
    assert early == [True, True]


def test_waiting_for_a_party_that_never_comes_ends(backend: Any) -> None:
    barrier: Any = Barrier(backend, "alone")  # type: ignore[no-untyped-call]
    barrier.create(2)
    assert barrier.wait(timeout=1000) is False


def test_a_notification_reaches_those_who_come_late(ours: JetStreamRateLimiterBackend) -> None:
    ours.wait_notify("event", DAY_MS)
    assert ours.wait("event", 1000) is True
    assert ours.wait("event", None) is True


def test_the_server_forgets_what_lived_long_enough(
    ours: JetStreamRateLimiterBackend, server: NatsServer
) -> None:
    assert ours.add("brief", 1, 500)
    assert ours.incr_and_sum("brief@1", lambda: ["brief@1"], 1, 9, 1000)
    assert stored(server, ours) == 2
    wait_until(lambda: stored(server, ours) == 0)


def stored(server: NatsServer, backend: JetStreamRateLimiterBackend) -> int:
    info = backend.connection.run(backend.connection.session().api("STREAM.INFO.KV_transforms_limits"))
    return int(info["state"]["messages"])


def test_a_write_whose_answer_was_lost_counts_once(
    ours: JetStreamRateLimiterBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ours.connection.session()
    publish, lost = session.publish, list[str]()

    async def publish_unheard(subject: str, payload: bytes, headers: dict[str, str]) -> int:
        sequence = await publish(subject, payload, headers)
        if not lost:
            lost.append(subject)
            raise nats.errors.TimeoutError
        return sequence

    monkeypatch.setattr(session, "publish", publish_unheard)
    assert ours.incr("k", 1, 1, DAY_MS)  # the last place is ours, not somebody else's
    assert lost
    assert not ours.incr("k", 1, 1, DAY_MS)


def test_a_write_that_others_followed_before_it_was_confirmed_counts_once(
    ours: JetStreamRateLimiterBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ours.connection.session()
    publish, lost = session.publish, list[str]()

    async def publish_unheard(subject: str, payload: bytes, headers: dict[str, str]) -> int:
        sequence = await publish(subject, payload, headers)
        if not lost:
            lost.append(subject)
            assert await ours._decide_alone("k", lambda old: (old or 0) + 10, DAY_MS)
            raise nats.errors.TimeoutError
        return sequence

    monkeypatch.setattr(session, "publish", publish_unheard)
    assert ours.incr("k", 1, 100, DAY_MS)
    assert ours.connection.run(ours._bucket().read("k")).value == b"11"


def test_a_key_deleted_by_another_client_can_be_added_again(
    ours: JetStreamRateLimiterBackend,
) -> None:
    async def delete() -> None:
        session = ours.connection.session()
        await session.publish("$KV.transforms_limits.k", b"", {"KV-Operation": "DEL"})

    assert ours.add("k", 1, DAY_MS)
    ours.connection.run(delete())
    assert ours.add("k", 1, DAY_MS)


def test_a_replica_that_lags_is_not_believed(
    ours: JetStreamRateLimiterBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_last, lagged = kv.Bucket._read_last, list[int]()

    async def lag_once(bucket: kv.Bucket, subjects: Any) -> tuple[list[Any], int]:
        if not lagged:
            lagged.append(1)
            return [], 0
        return await read_last(bucket, subjects)

    assert ours.add("k@1", 5, DAY_MS)
    monkeypatch.setattr(kv.Bucket, "_read_last", lag_once)
    assert not ours.incr_and_sum("k@2", lambda: ["k@2", "k@1"], 1, 5, DAY_MS)
    assert lagged


def test_a_sum_over_more_keys_than_the_server_answers_at_once_is_exact(
    ours: JetStreamRateLimiterBackend,
) -> None:
    names = [f"many@{number}" for number in range(1500)]

    async def fill() -> None:
        bucket = ours._bucket()
        await asyncio.gather(*(bucket.put(kv.encode_key(name), b"1", DAY_MS) for name in names))

    ours.connection.run(fill())
    assert [ours.incr_and_sum("many@7", lambda: names, 1, 1501, DAY_MS) for _ in range(2)] == [True, False]


def test_losing_the_race_for_too_long_is_an_error_that_says_so(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> bool:
        return False

    backend = JetStreamRateLimiterBackend(make_options(server.url, publish_timeout_seconds=0.3))
    monkeypatch.setattr(kv.Bucket, "replace", never)
    with pytest.raises(ContentionError, match=r"contended: others were faster \d+ times"):
        backend.add("contended", 1, DAY_MS)
    backend.close()


def test_without_a_server_the_error_is_dramatiqs() -> None:
    backend = JetStreamRateLimiterBackend(
        make_options("nats://127.0.0.1:9", connect_timeout_seconds=0.3, publish_timeout_seconds=0.5)
    )
    with pytest.raises(BrokerConnectionError):
        backend.add("k", 1, 1000)
    with pytest.raises(BrokerConnectionError):
        backend.wait("k", 1000)
    backend.close()


def test_without_a_bucket_the_error_names_it(server: NatsServer) -> None:
    backend = JetStreamRateLimiterBackend(make_options(server.url, limits_bucket="nowhere"))
    with pytest.raises(TopologyError, match=r"no stream KV_nowhere: topology\.apply"):
        backend.add("k", 1, 1000)
    backend.close()


def test_a_forked_child_and_its_parent_share_a_limit(ours: JetStreamRateLimiterBackend) -> None:
    assert ours.incr("forked", 1, 3, DAY_MS)
    child = multiprocessing.get_context("fork").Process(target=ours.incr, args=("forked", 1, 3, DAY_MS))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert [ours.incr("forked", 1, 3, DAY_MS) for _ in range(2)] == [True, False]


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from dramatiq.rate_limits import Barrier
from brokers import BrokerOptions, JetStreamRateLimiterBackend
backend = JetStreamRateLimiterBackend(BrokerOptions(servers=sys.argv[1], publish_timeout_seconds=20.0))
admitted = [gevent.spawn(backend.incr, "green", 1, 5, 60_000) for _ in range(20)]
barrier = Barrier(backend, "greens")
barrier.create(10)
met = [gevent.spawn(barrier.wait, timeout=20_000) for _ in range(10)]
gevent.joinall([*admitted, *met], timeout=40)
print(sum(g.value for g in admitted), sum(g.value for g in met))
backend.close()
"""


def test_greenlets_share_a_limit_and_meet_at_a_barrier(
    ours: JetStreamRateLimiterBackend, server: NatsServer
) -> None:
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", GREENLETS, server.url],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.split() == ["5", "10"], ran.stderr
