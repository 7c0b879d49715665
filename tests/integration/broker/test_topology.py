from __future__ import annotations

import dataclasses

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import BrokerOptions, JetStreamBroker, QueueSpec, ReplicasError, TopologyError, topology
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message


def test_applying_twice_changes_nothing_and_a_dry_run_changes_nothing(server: NatsServer) -> None:
    options = make_options(server.url)
    planned = topology.apply(options, QUEUES, dry_run=True)
    assert [str(change) for change in planned] == [
        "create stream QUICK",
        "create stream OTHER",
        "create stream DLQ_TRANSFORMS",
        "create stream DLQ_RECORDS",
        "create stream TRANSFORM_STATUS",
        "create stream KV_transforms_results",
        "create stream KV_transforms_limits",
        "create consumer QUICK/quick",
        "create consumer OTHER/other",
        "create consumer DLQ_TRANSFORMS/dead-letter-index",
    ]
    assert topology.apply(options, QUEUES) == planned
    assert topology.apply(options, QUEUES) == []


def test_a_changed_option_is_shown_and_then_applied(server: NatsServer) -> None:
    options = make_options(server.url)
    topology.apply(options, QUEUES)
    changed = make_options(server.url, max_ack_pending=7, dead_letter_max_age_seconds=86_400.0)
    longer = [dataclasses.replace(QUEUES[0], ack_wait_seconds=60.0), QUEUES[1]]
    wanted = [
        "update stream DLQ_TRANSFORMS: max_age 2592000.0 -> 86400.0",
        "update stream DLQ_RECORDS: subject_delete_marker_ttl 2592000.0 -> 86400.0",
        "update consumer QUICK/quick: ack_wait 1.5 -> 60.0",
        "update consumer QUICK/quick: max_ack_pending 100 -> 7",
        "update consumer OTHER/other: max_ack_pending 100 -> 7",
    ]
    assert [str(change) for change in topology.apply(changed, longer, dry_run=True)] == wanted
    assert [str(change) for change in topology.apply(changed, longer)] == wanted
    assert topology.apply(changed, longer) == []


def test_replicas_on_a_single_server_are_refused_naming_the_variable(server: NatsServer) -> None:
    with pytest.raises(ReplicasError, match=r"NATS_REPLICAS asks for 3 .* a single server"):
        topology.apply(make_options(server.url, replicas=3), QUEUES)


def test_a_change_that_would_lose_messages_is_refused(
    options: BrokerOptions, broker: JetStreamBroker
) -> None:
    broker.enqueue(message("work", "precious"))
    renamed = [QueueSpec(name="swift", stream="QUICK"), QUEUES[1]]
    with pytest.raises(TopologyError, match="holds 1 messages and would lose"):
        topology.apply(options, renamed)


def test_without_streams_an_enqueue_says_so_in_dramatiqs_words(server: NatsServer) -> None:
    broker = JetStreamBroker(make_options(server.url, publish_timeout_seconds=2.0), QUEUES)
    with pytest.raises(BrokerConnectionError, match=r"transforms\.ready\.quick"):
        broker.enqueue(message("work", "x"))
    broker.close()
