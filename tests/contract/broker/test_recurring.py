"""What a recurring schedule refuses, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from brokers import JetStreamBroker, JetStreamStubBroker, recurring
from tests.contract.broker.harness import only_ours
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def test_a_unique_message_cannot_recur(broker: JetStreamBroker) -> None:
    unique = message("tick", queue="default", unique_key="k")
    with pytest.raises(ValueError, match="unique_key 'k' has no effect in a recurring schedule"):
        recurring.schedule_every(broker, "clock", unique, timedelta(minutes=1))
    assert recurring.schedules(broker, "default") == []


def test_a_cron_schedule_goes_by_the_clock_of_its_time_zone(broker: JetStreamBroker) -> None:
    """In Kolkata (UTC+5:30) it is never the hour that it is in UTC, nor the next one."""
    hour = datetime.now(ZoneInfo("Asia/Kolkata")).hour
    tick, cron = message("tick", queue="default"), f"* * {hour},{(hour + 1) % 24} * * *"
    recurring.schedule_cron(broker, "utc", tick, cron, "UTC")
    recurring.schedule_cron(broker, "india", tick, cron, "Asia/Kolkata")
    if isinstance(broker, JetStreamStubBroker):
        broker.advance(2)
    consumer = broker.consume("default", prefetch=1, timeout=100)
    fired = [wait_until(lambda: next(consumer), 30) for _ in range(2)]
    recurring.unschedule(broker, "default", "india")
    assert fired[0].message_id != fired[1].message_id
    assert {one.delivery.headers["Nats-Scheduler"].rpartition(".")[2] for one in fired} == {"india"}
    for one in fired:
        consumer.ack(one)
    consumer.close()


@pytest.mark.parametrize("name", ["", "two words", "a.b", "a\n", "x" * 65, None, 7])
def test_the_name_of_a_schedule_is_checked_by_a_rule_that_it_tells(
    broker: JetStreamBroker, name: Any
) -> None:
    with pytest.raises(ValueError, match=r"name .* must be 1 to 64 letters, digits"):
        recurring.schedule_cron(broker, name, message("tick", queue="default"), "* * * * *")


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 1.5])
def test_the_period_of_a_schedule_is_checked_by_a_rule_that_it_tells(
    broker: JetStreamBroker, seconds: float
) -> None:
    with pytest.raises(ValueError, match="period must be whole seconds, at least one"):
        recurring.schedule_every(
            broker, "clock", message("tick", queue="default"), timedelta(seconds=seconds)
        )
