"""What a recurring schedule refuses, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from brokers import JetStreamBroker, recurring
from tests.contract.broker.harness import only_ours
from tests.integration.broker.workers import message

pytestmark = only_ours


def test_a_unique_message_cannot_recur(broker: JetStreamBroker) -> None:
    unique = message("tick", queue="default", unique_key="k")
    with pytest.raises(ValueError, match="unique_key 'k' has no effect in a recurring schedule"):
        recurring.schedule_every(broker, "clock", unique, timedelta(minutes=1))
    assert recurring.schedules(broker, "default") == []


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
