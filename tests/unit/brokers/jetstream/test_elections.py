"""A cluster that elects its leader is asked again, and not for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator

import nats.errors
import nats.js.errors
import pytest

from brokers.jetstream import elections
from tests.support.stack import run_apart


def answers(*given: object) -> Callable[[], Awaitable[object]]:
    left: Iterator[object] = iter(given)

    async def ask() -> object:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elections, "_PAUSE_SECONDS", 0.001)


def test_it_asks_until_a_leader_answers_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    unanswered = (nats.errors.TimeoutError(), nats.errors.NoRespondersError())
    with caplog.at_level(logging.INFO, elections.__name__):
        assert run_apart(elections.answered, "reading stream A", answers(*unanswered, 7)) == 7
    assert [record.getMessage() for record in caplog.records] == [
        (
            "reading stream A: JetStream does not answer (TimeoutError): "
            "it has no leader yet, or is not enabled; asking again"
        )
    ]


def test_what_a_leader_refuses_is_not_asked_again() -> None:
    with pytest.raises(nats.js.errors.NotFoundError):
        run_apart(elections.answered, "reading", answers(nats.js.errors.NotFoundError(), 7))


def test_in_the_end_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elections, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(nats.errors.TimeoutError):
        run_apart(elections.answered, "reading", answers(nats.errors.TimeoutError(), 7))
