"""What follows a run: callbacks, pipelines, groups and results, every broker."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.middleware import CurrentMessage, GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend as LimiterBackend
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import StubBackend as ResultsBackend

from tests.contract.broker.harness import Run, declare

make_group: Any = dramatiq.group


@pytest.fixture
def results(broker: Broker) -> ResultsBackend:
    backend = ResultsBackend()
    broker.add_middleware(Results(backend=backend))  # type: ignore[no-untyped-call]  # Dramatiq's
    return backend


def test_a_success_is_told_to_on_success(broker: Broker, run: Run) -> None:
    seen: list[Any] = []
    done = declare(broker, lambda data, result: seen.append((data["message_id"], result)), actor_name="done")
    sent = declare(broker, lambda x, y: x + y).send_with_options(args=(5, 6), on_success=done)
    run()
    assert seen == [(sent.message_id, 11)]


def test_every_failed_run_is_told_to_on_failure(broker: Broker, run: Run) -> None:
    seen: list[Any] = []
    told = declare(broker, lambda data, error: seen.append((data["message_id"], error)), actor_name="told")

    def job() -> None:
        raise KeyError("k")

    sent = declare(broker, job, max_retries=1, on_failure=told.actor_name).send()
    run()
    assert seen == 2 * [(sent.message_id, {"type": "KeyError", "message": "'k'"})]


def test_a_pipeline_hands_each_result_to_the_next_step(
    broker: Broker, run: Run, results: ResultsBackend
) -> None:
    add = declare(broker, lambda x, y: x + y, actor_name="add", store_results=True)
    steps: Any = dramatiq.pipeline([add.message(1, 2), add.message(4), add.message(10)], broker=broker)
    steps.run()
    run()
    assert steps.get_result(block=True, timeout=5000) == 17
    assert list(steps.get_results(block=True, timeout=5000)) == [3, 7, 17]


def test_a_pipeline_ends_where_a_step_fails(broker: Broker, run: Run) -> None:
    seen: list[Any] = []

    def breaks(_: int) -> int:
        raise RuntimeError("broken")

    first = declare(broker, breaks, actor_name="breaks", max_retries=1)
    record = declare(broker, seen.append, actor_name="record")
    steps: Any = dramatiq.pipeline([first.message(1), record.message()], broker=broker)
    steps.run(delay=50)
    run()
    assert seen == []


def test_a_group_collects_its_results(broker: Broker, run: Run, results: ResultsBackend) -> None:
    double = declare(broker, lambda x: 2 * x, store_results=True)
    jobs = make_group([double.message(number) for number in range(8)], broker=broker)
    jobs.run()
    run()
    assert list(jobs.get_results(block=True, timeout=5000)) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_a_groups_callback_runs_once_after_the_last_of_its_jobs(broker: Broker, run: Run) -> None:
    order: list[str] = []
    broker.add_middleware(GroupCallbacks(LimiterBackend()))  # type: ignore[no-untyped-call]  # Dramatiq's
    work = declare(broker, lambda number: order.append(f"job{number}"))
    complete = declare(broker, lambda: order.append("complete"), actor_name="complete")
    jobs = make_group([work.message(number) for number in range(6)], broker=broker)
    jobs.add_completion_callback(complete.message())
    jobs.run()
    run()
    assert sorted(order[:-1]) == [f"job{number}" for number in range(6)]
    assert order[-1] == "complete"


def test_a_result_is_stored_and_read(broker: Broker, run: Run, results: ResultsBackend) -> None:
    sent = declare(broker, lambda x: x * 2, store_results=True).send(21)
    run()
    assert sent.get_result(backend=broker.get_results_backend()) == 42


def test_the_error_of_a_job_that_gave_up_is_its_result(
    broker: Broker, run: Run, results: ResultsBackend
) -> None:
    def job() -> None:
        raise KeyError("k")

    sent = declare(broker, job, store_results=True, max_retries=0).send()
    run()
    with pytest.raises(ResultFailure, match="KeyError"):
        sent.get_result(backend=results, block=True, timeout=5000)


def test_the_current_message_is_known_inside_a_job(broker: Broker, run: Run) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[str] = []

    def job() -> None:
        current = CurrentMessage.get_current_message()
        assert current is not None
        seen.append(current.message_id)

    sent = declare(broker, job).send()
    run()
    assert seen == [sent.message_id]


def test_a_job_can_send_to_another_queue(broker: Broker, run: Run) -> None:
    seen: list[int] = []
    second = declare(broker, seen.append, actor_name="second", queue_name="other")
    declare(broker, second.send).send(7)
    run()
    broker.join("other", timeout=10_000)
    assert seen == [7]
