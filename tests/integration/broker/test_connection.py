"""What lives in the event loop beside the calls that somebody waits for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from brokers import JetStreamBroker
from brokers.jetstream.backoff import Backoff
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import wait_until


async def _break_down() -> None:
    raise RuntimeError("a bug")


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_background_task_that_dies_says_so_with_its_name(
    broker: JetStreamBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connection.start(_break_down())
    wait_until(lambda: _errors(caplog) == ["Background task _break_down died."])
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a bug"


def test_a_background_task_that_is_stopped_at_close_says_nothing(
    broker: JetStreamBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.connection.start(_wait_for_ever())
    broker.get_queue_message_counts("quick")
    broker.close()
    assert _errors(caplog) == []


def test_each_try_to_connect_waits_longer_than_the_one_before_until_one_succeeds(
    broker: JetStreamBroker, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = broker.connection.session()
    client = broker.connection.run(session.client())
    monkeypatch.setattr(session, "_backoff", backoff := Backoff(broker.options))
    pauses = iter([0.01, 0.02, 0.03, *[0.04] * 1000])
    monkeypatch.setattr(backoff, "next", lambda: next(pauses))
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waited.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    server.kill()
    wait_until(lambda: [pause for pause in waited if pause < 0.05][:4] == [0.01, 0.02, 0.03, 0.04], 30)
    server.start()
    wait_until(lambda: client.is_connected, 30)
