from __future__ import annotations

from typing import Any

import pytest

from brokers import BrokerOptions, QueueSpec, ServerTooOldError
from brokers.jetstream import topology

QUEUES = [
    QueueSpec(name="collection-transforms", stream="COLLECTION_TRANSFORMS"),
    QueueSpec(name="visualization-transforms", stream="VISUALIZATION_TRANSFORMS", ack_wait_seconds=1800),
]


def test_streams_have_the_names_retention_and_limits_of_the_guide() -> None:
    configs = {config.name: config for config in topology.stream_configs(BrokerOptions(replicas=3), QUEUES)}
    assert list(configs) == [
        "COLLECTION_TRANSFORMS",
        "VISUALIZATION_TRANSFORMS",
        "DLQ_TRANSFORMS",
        "DLQ_RECORDS",
        "TRANSFORM_STATUS",
        "KV_transforms_results",
        "KV_transforms_limits",
    ]
    work, dead = configs["COLLECTION_TRANSFORMS"], configs["DLQ_TRANSFORMS"]
    status = configs["TRANSFORM_STATUS"]
    assert (work.retention, work.max_age) == ("workqueue", 7 * 86_400)
    assert (dead.retention, dead.max_age) == ("limits", 30 * 86_400)
    assert (status.retention, status.max_age, status.max_msgs) == ("limits", 3600, 100_000)
    assert {config.num_replicas for config in configs.values()} == {3}


def _stream(name: str, options: BrokerOptions) -> Any:
    return next(config for config in topology.stream_configs(options, QUEUES) if config.name == name)


def test_records_outlive_dead_letters_but_the_servers_markers_cannot() -> None:
    records = _stream("DLQ_RECORDS", BrokerOptions())
    assert (records.max_age, records.subject_delete_marker_ttl) == (90 * 86_400, 30 * 86_400)
    short = _stream("DLQ_RECORDS", BrokerOptions(dead_record_max_age_seconds=5))
    assert (short.max_age, short.subject_delete_marker_ttl) == (30 * 86_400, 5)


def test_streams_with_schedules_have_no_size_limit() -> None:
    work = topology.stream_configs(BrokerOptions(), QUEUES)[0]
    assert work.allow_msg_schedules
    assert (work.max_msgs, work.max_bytes, work.discard) == (None, None, "old")


def test_consumers_cover_the_ready_subject_alone_and_have_no_backoff_list() -> None:
    (stream, collections), (_, visualizations) = topology.consumer_configs(BrokerOptions(), QUEUES)
    assert stream == "COLLECTION_TRANSFORMS"
    assert collections.filter_subject == "transforms.ready.collection-transforms"
    assert (collections.ack_wait, visualizations.ack_wait) == (600, 1800)
    assert (collections.max_deliver, collections.max_ack_pending, collections.backoff) == (5, 100, None)


def test_queues_of_one_stream_share_it() -> None:
    shared = [QueueSpec(name="a", stream="S"), QueueSpec(name="b", stream="S")]
    stream = topology.stream_configs(BrokerOptions(), shared)[0]
    assert {"transforms.ready.a", "transforms.ready.b"} <= set(stream.subjects or [])


@pytest.mark.parametrize("text", ["has.dots", "has space", "*", ">", "", "x" * 200, "ümlaut"])
def test_an_id_that_is_no_subject_token_becomes_a_digest(text: str) -> None:
    assert topology.token(text).isalnum()
    assert topology.token(text) != topology.token(text + "!")


@pytest.mark.parametrize("version", ["2.14.1", "2.15.1", "3.0.0", "2.15.0-RC.1"])
def test_new_servers_are_accepted(version: str) -> None:
    topology.check_server(version)


@pytest.mark.parametrize("version", ["2.14.0", "2.12.9", "1.99", "", "nonsense"])
def test_old_servers_are_refused_naming_both_versions(version: str) -> None:
    with pytest.raises(ServerTooOldError, match=rf"version {version}.*2\.14\.1 or newer"):
        topology.check_server(version)
