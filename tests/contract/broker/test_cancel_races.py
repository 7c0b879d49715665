"""Cancelling and hastening near the due moment, on the stub twin, one server and a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from dramatiq.middleware import CurrentMessage

from brokers import JetStreamBroker, NotScheduledError, NotUniqueError, control
from brokers.jetstream.overdue import due_at
from brokers.jetstream.stored import all_headers
from tests.contract.broker.harness import StartWorker, counts, declare, only_ours
from tests.integration.broker import races
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def due_of(broker: JetStreamBroker, message_id: str) -> datetime:
    """When a waiting message is due, as it is stored now."""
    session, spec = broker.connection.session(), broker.specs["default"]
    found = broker.connection.run(control._waiting(session, spec, message_id))
    due = due_at(all_headers(found)["Nats-Schedule"])
    assert due is not None
    return due


def set_clock(monkeypatch: pytest.MonkeyPatch, *moments: datetime) -> None:
    """What the server's clock says, each time that it is looked at."""
    answers = iter(moments)

    async def server_now(*_: object) -> datetime:
        return next(answers)

    monkeypatch.setattr(control, "_server_now", server_now)


def test_who_acts_on_a_message_around_its_time_has_it_or_its_timer_has(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    runs = list[str]()

    def job() -> None:
        current: Any = CurrentMessage.get_current_message()
        runs.append(current.message_id)

    broker.add_middleware(CurrentMessage())
    actor = declare(broker, job)
    worker = start_worker()
    lead = 4.0 if broker.options.replicas > 1 else 0.8  # a busy machine needs some time to act
    racers = races.hold_races(broker, actor, 60, lead_seconds=lead)
    broker.join("default", timeout=60_000)
    worker.join()
    found = races.outcomes(racers, runs)
    assert set(found) <= races.FINE, found
    assert found[races.CANCELLED] > 0
    assert found[races.RAN] > 0


def test_what_is_due_is_neither_cancelled_nor_hastened(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = broker.enqueue(message("work", queue="default"), delay=3_600_000)
    due = due_of(broker, sent.message_id)
    set_clock(monkeypatch, due, due)
    with pytest.raises(NotScheduledError, match=f"{sent.message_id} .* is due"):
        control.cancel(broker, "default", sent.message_id)
    control.run_now(broker, "default", sent.message_id)
    assert counts(broker) == (0, 1, 0), "it was touched"


def test_in_a_cluster_the_last_two_seconds_are_the_timers(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = broker.enqueue(message("work", queue="default"), delay=3_600_000)
    soon = due_of(broker, sent.message_id) - timedelta(seconds=1.9)
    set_clock(monkeypatch, soon, soon)
    if broker.options.replicas > 1:
        with pytest.raises(NotScheduledError, match="is due"):
            control.cancel(broker, "default", sent.message_id)
        assert counts(broker) == (0, 1, 0)
    else:
        control.cancel(broker, "default", sent.message_id)
        assert counts(broker) == (0, 0, 0)


def test_a_message_whose_time_comes_while_it_is_put_off_is_let_go(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = broker.enqueue(message("work", queue="default", unique_key="k"), delay=3_600_000)
    due = due_of(broker, sent.message_id)
    set_clock(monkeypatch, due - timedelta(seconds=3), due)
    with pytest.raises(NotScheduledError, match="is due"):
        control.cancel(broker, "default", sent.message_id)
    assert due_of(broker, sent.message_id) == due, "it was put off"
    with pytest.raises(NotUniqueError):
        broker.enqueue(message("work", queue="default", unique_key="k"))


def test_what_was_overdue_for_long_runs_now(broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = broker.enqueue(message("work", queue="default"), delay=3_600_000)
    now = due_of(broker, sent.message_id) + timedelta(seconds=11)
    set_clock(monkeypatch, now)
    control.run_now(broker, "default", sent.message_id)
    assert due_of(broker, sent.message_id) == now


def test_what_is_to_run_now_is_due_by_the_servers_clock(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HourAhead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    sent = broker.enqueue(message("work", queue="default"), delay=600_000)
    monkeypatch.setattr(control, "datetime", HourAhead)
    control.run_now(broker, "default", sent.message_id)
    wait_until(lambda: counts(broker) == (1, 0, 0))
