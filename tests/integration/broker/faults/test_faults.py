"""A producer and two workers under load while something breaks; afterwards nothing is lost or unexplained.

The fault of each test is in its name. Figures of what ran more than once are printed (pytest -s).
"""

from __future__ import annotations

import signal
import time
from subprocess import Popen

import pytest

from tests.integration.broker.faults.checker import Report, Verdict
from tests.integration.broker.faults.history import Kind
from tests.integration.broker.faults.processes import Processes
from tests.integration.broker.faults.proxy import Mode, TcpProxy
from tests.integration.broker.server import NatsCluster, NatsServer
from tests.integration.broker.workers import QUEUES

_PAST_ACK_WAIT_SECONDS = 2 * QUEUES[0].ack_wait_seconds
_STORM_SECONDS, _STORM_PAUSE_SECONDS = 5.0, 0.3


def start_load(processes: Processes, count: int, *, rate: float = 150) -> Popen[bytes]:
    """Two workers and a producer; returns the producer when jobs are being done."""
    processes.worker()
    processes.worker()
    producer = processes.producer(count, rate=rate)
    processes.wait_for(Kind.END, 50)
    return producer


def assert_whole(processes: Processes, producer: Popen[bytes], count: int) -> Report:
    """After everything has drained: `count` messages, each explained, none lost, all work done."""
    processes.finished(producer)
    report = processes.drained()
    assert report.bad == []
    assert len(report.findings) == count
    assert report.count(Verdict.DONE_ONCE) + report.count(Verdict.DONE_MORE) > count // 2
    return report


def test_kill_9_of_workers_loses_nothing(processes: Processes) -> None:
    steady = processes.worker()
    victim = processes.worker()
    producer = processes.producer(800, rate=100, seconds=0.05)
    for _ in range(3):
        processes.wait_for(Kind.END, 50)
        processes.kill(victim)
        victim = processes.worker()
    assert steady.poll() is None
    report = assert_whole(processes, producer, 800)
    assert report.count(Verdict.NOT_STORED) == 0
    assert report.cut_short > 0


def test_kill_9_of_the_server_loses_nothing(processes: Processes, server: NatsServer) -> None:
    producer = start_load(processes, 800)
    for pause in (0.5, 3.0):  # shorter and longer than an enqueue tries
        server.kill()
        time.sleep(pause)
        server.start()
        processes.wait_for(Kind.END, 50)
    assert_whole(processes, producer, 800)


def test_kill_9_of_the_streams_leader_loses_nothing(cluster: NatsCluster, clustered: Processes) -> None:
    producer = start_load(clustered, 800)
    leader = cluster.leader_of("QUICK")
    leader.kill()
    clustered.wait_for(Kind.END, 50)
    leader.start()
    cluster.wait_healthy()
    assert_whole(clustered, producer, 800)


def test_kill_9_of_all_three_servers_loses_nothing(cluster: NatsCluster, clustered: Processes) -> None:
    producer = start_load(clustered, 800)
    cluster.kill()
    time.sleep(1)
    cluster.start()
    assert_whole(clustered, producer, 800)


def test_a_rolling_restart_of_the_cluster_loses_nothing(cluster: NatsCluster, clustered: Processes) -> None:
    producer = start_load(clustered, 1500)
    for server in cluster.servers:
        server.stop()
        server.start()
        cluster.wait_healthy()
    assert_whole(clustered, producer, 1500)


def test_a_worker_stopped_past_ack_wait_comes_back_and_nothing_is_lost(processes: Processes) -> None:
    stopped = processes.worker()
    processes.worker()
    producer = processes.producer(800, rate=150, seconds=0.05)
    for _ in range(2):
        processes.wait_for(Kind.END, 50)
        processes.signal(stopped, signal.SIGSTOP)
        time.sleep(_PAST_ACK_WAIT_SECONDS)
        processes.signal(stopped, signal.SIGCONT)
    report = assert_whole(processes, producer, 800)
    assert report.count(Verdict.NOT_STORED) == 0


@pytest.mark.parametrize("mode", [Mode.DROP, Mode.REFUSE, Mode.RESET])
def test_a_worker_cut_off_past_ack_wait_loses_nothing(
    processes: Processes, proxy: TcpProxy, mode: Mode
) -> None:
    processes.worker(url=proxy.url)
    processes.worker()
    producer = processes.producer(800, rate=150, seconds=0.05)
    processes.wait_for(Kind.END, 50)
    proxy.set(mode)
    time.sleep(_PAST_ACK_WAIT_SECONDS)
    processes.wait_for(Kind.END, 50)  # the other worker goes on
    proxy.set(Mode.PASS)
    report = assert_whole(processes, producer, 800)
    assert report.count(Verdict.NOT_STORED) == 0


@pytest.mark.parametrize("mode", [Mode.DROP, Mode.REFUSE, Mode.RESET])
def test_a_producer_cut_off_is_told_so_and_loses_nothing(
    processes: Processes, proxy: TcpProxy, mode: Mode
) -> None:
    processes.worker()
    processes.worker()
    producer = processes.producer(400, rate=150, url=proxy.url)
    processes.wait_for(Kind.END, 50)
    proxy.set(mode)
    processes.wait_for(Kind.REFUSED, 2)
    time.sleep(_PAST_ACK_WAIT_SECONDS)
    proxy.set(Mode.PASS)
    assert_whole(processes, producer, 400)


def test_a_storm_of_reconnections_loses_nothing(processes: Processes, proxy: TcpProxy) -> None:
    processes.worker(url=proxy.url)
    processes.worker(url=proxy.url)
    producer = processes.producer(800, rate=150, url=proxy.url)
    processes.wait_for(Kind.END, 50)
    before, end = proxy.accepted, time.monotonic() + _STORM_SECONDS
    while time.monotonic() < end:
        proxy.reset_connections()
        time.sleep(_STORM_PAUSE_SECONDS)
    assert proxy.accepted - before > 3 * 3  # three clients, several times each
    assert_whole(processes, producer, 800)
