"""How many scheduled messages a patrol looks at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from brokers import BrokerOptions, QueueSpec
from brokers.jetstream.connection import Session
from brokers.jetstream.overdue import Overdue
from brokers.jetstream.schedule import schedule_at
from tests.support.stack import run_apart


def test_a_patrol_looks_at_few_and_hurries_while_it_finds_any_overdue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = [0]

    async def following(_: Overdue) -> dict[str, Any]:
        looked[-1] += 1
        return {}

    async def fire(*_: object) -> bool:
        return looked == [50, 1]  # the first one of the second round

    monkeypatch.setattr(Overdue, "_following", following)
    monkeypatch.setattr(Overdue, "_fire", fire)
    overdue = schedule_at(datetime(2020, 1, 1, tzinfo=UTC), "ready")
    monkeypatch.setattr("brokers.jetstream.overdue.all_headers", lambda _: overdue)

    async def patrol() -> None:
        walk = Overdue(Session(BrokerOptions()), QueueSpec(name="quick", stream="QUICK"))
        for _ in range(4):
            await walk.nudge(datetime.now(UTC))
            looked.append(0)

    run_apart(patrol)
    assert looked == [50, 50, 500, 50, 0]
