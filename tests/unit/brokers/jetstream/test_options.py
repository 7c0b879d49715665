from __future__ import annotations

from typing import Any

import pytest

from brokers import BrokerOptions, QueueSpec


def test_servers_may_be_one_text_with_commas() -> None:
    options = BrokerOptions(servers="nats://a:4222, nats://b:4222,")
    assert options.server_urls == ("nats://a:4222", "nats://b:4222")


def test_the_defaults_are_five_attempts_after_30_60_120_and_300_seconds() -> None:
    options = BrokerOptions()
    assert (options.max_attempts, options.max_retries) == (5, 4)
    assert [options.backoff_after(retries) for retries in range(6)] == [30, 60, 120, 300, 300, 300]
    assert (options.max_deliver, options.max_ack_pending) == (5, 100)


def test_heartbeats_come_at_a_third_of_ack_wait() -> None:
    assert QueueSpec(name="q", stream="S", ack_wait_seconds=1800).heartbeat_seconds == 600


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("servers", " , "),
        ("replicas", 0),
        ("max_attempts", 0),
        ("max_crashes", 0),
        ("max_deliver", 2),
        ("max_ack_pending", 0),
        ("prefetch", 0),
        ("backoff_seconds", ()),
        ("backoff_seconds", (1.0, -1.0)),
        ("publish_timeout_seconds", 0),
        ("subject_root", "two.words"),
        ("results_bucket", "two.words"),
        ("limits_bucket", ""),
        ("limits_bucket", "transforms_results"),
        ("results_max_age_seconds", 0),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        BrokerOptions(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("name", "a.b"), ("stream", ""), ("ack_wait_seconds", 0)])
def test_a_queue_that_cannot_work_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        QueueSpec(**{"name": "q", "stream": "S", field: value})
