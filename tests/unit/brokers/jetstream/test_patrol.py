"""When a worker looks after its queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from brokers import BrokerOptions, QueueSpec
from brokers.jetstream.connection import Session
from brokers.jetstream.oddities import ClockWatch
from brokers.jetstream.presence import Presence, RollCall
from brokers.jetstream.rescue import Patrol
from tests.support.stack import run_apart

SPEC = QueueSpec(name="quick", stream="QUICK")


def pauses(monkeypatch: pytest.MonkeyPatch, gone: list[set[str]]) -> list[float]:
    """How long a patrol pauses before each look, when those looks find these workers gone."""
    waited: list[float] = []
    loops: list[asyncio.AbstractEventLoop] = []  # brokers of other tests may be alive in theirs

    asleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        ours = asyncio.get_running_loop() in loops
        waited.extend([seconds] if ours else [])
        await asleep(0 if ours else seconds)

    async def patrol() -> None:
        loops.append(asyncio.get_running_loop())
        patrol = Patrol(Session(BrokerOptions(patrol_seconds=10)), SPEC, None)  # type: ignore[arg-type]
        looks = iter(gone)

        async def once() -> None:
            found = next(looks, None)
            if found is None:
                raise asyncio.CancelledError
            patrol._gone = found

        monkeypatch.setattr(patrol, "once", once)
        await patrol.run()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        run_apart(patrol)
    return waited


def test_it_looks_soon_after_its_start_and_again_soon_when_somebody_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pauses(monkeypatch, [set(), {"a"}, set(), set()]) == [2, 10, 5, 10, 10]


def test_what_one_message_holds_does_not_end_the_watch_over_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patrol = Patrol(Session(BrokerOptions()), SPEC, None)  # type: ignore[arg-type]
    looked: list[str] = []

    async def api(_name: str) -> dict[str, str]:
        return {"ts": datetime.now(UTC).isoformat()}

    def look(name: str) -> Callable[[object], Awaitable[None]]:
        async def fail(_given: object) -> None:
            looked.append(name)
            raise ValueError(f"odd {name}")

        return fail

    monkeypatch.setattr(patrol._session, "api", api)
    monkeypatch.setattr(patrol._overdue, "nudge", look("schedule"))
    monkeypatch.setattr(patrol, "_look_for_stranded", look("stranded"))
    monkeypatch.setattr(patrol, "_look_for_orphans", look("orphan"))
    run_apart(patrol.once)
    assert looked == ["schedule", "stranded", "orphan"]
    assert caplog.messages == ["Looking after quick failed; it goes on."] * 3


def test_who_is_just_connected_again_takes_nobody_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(just_back: bool) -> tuple[set[str], int]:
        session = Session(BrokerOptions())
        monkeypatch.setattr(Session, "just_back", just_back)
        presence = Presence(session, SPEC, list)
        calls = 0

        async def call_roll() -> RollCall:
            nonlocal calls
            calls += 1
            return RollCall(gone={"a"})

        monkeypatch.setattr(presence, "call_roll", call_roll)
        patrol = Patrol(session, SPEC, presence)
        patrol._gone = {"b"}
        await patrol._look_for_orphans({"num_ack_pending": 0})
        return patrol._gone, calls

    assert run_apart(look, True) == (set(), 0)
    assert run_apart(look, False) == ({"a"}, 1)


def test_just_back_is_who_was_connected_before() -> None:
    async def connect(times: int) -> bool:
        session = Session(BrokerOptions())
        for _ in range(times):
            await session._on_reconnect()
        return session.just_back

    assert [run_apart(connect, times) for times in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("hours", "said"), [(1, "3600 s behind the"), (-1, "3600 s ahead of the"), (0, None)]
)
def test_a_clock_that_is_an_hour_off_the_servers_is_told_of_once(
    caplog: pytest.LogCaptureFixture, hours: int, said: str | None
) -> None:
    watch = ClockWatch()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watch.compare(datetime.now(UTC) + timedelta(hours=hours))
    assert len(caplog.messages) == (1 if said else 0)
    assert all(str(said) in text for text in caplog.messages)
