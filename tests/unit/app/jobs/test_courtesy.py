from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from app.jobs.courtesy import Courtesy

PATIENCE = 30.0
LONG = 3600.0


@contextmanager
def runs(courtesy: Courtesy, *owners: str) -> Iterator[None]:
    """A run of each of these owners, in threads that do nothing else."""
    over = threading.Event()
    begun = threading.Barrier(len(owners) + 1)

    def run(owner: str) -> None:
        with courtesy.running(owner):
            begun.wait(PATIENCE)
            assert over.wait(PATIENCE)

    threads = [threading.Thread(target=run, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE)
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def passed(courtesy: Courtesy, owner: str) -> threading.Event:
    """Set once a run of the owner that begins now was let through."""
    done = threading.Event()

    def run() -> None:
        with courtesy.running(owner):
            courtesy.give_way()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def test_one_of_many_runs_waits_until_somebodys_only_one_has_ended() -> None:
    courtesy = Courtesy(young_seconds=LONG)
    with ExitStack() as stack:
        stack.enter_context(runs(courtesy, "ann", "ann"))
        with runs(courtesy, "bob"):
            done = passed(courtesy, "ann")
            assert not done.wait(0.2)
        assert done.wait(PATIENCE)


def test_nobody_waits_for_a_run_that_is_not_young_any_more() -> None:
    courtesy = Courtesy(young_seconds=0.0)
    with runs(courtesy, "ann", "ann", "bob"):
        assert passed(courtesy, "ann").wait(PATIENCE)


@pytest.mark.parametrize(
    "others",
    [("ann", "ann"), ("ann", "bob"), ("ann", "ann", "bob", "bob")],
    ids=["alone", "few of one's own", "two of the other's"],
)
def test_nobody_waits_where_there_is_no_crowd_and_no_single_run(others: tuple[str, ...]) -> None:
    courtesy = Courtesy(young_seconds=LONG)
    with runs(courtesy, *others):
        assert passed(courtesy, "ann").wait(PATIENCE)


def test_the_single_run_itself_does_not_wait() -> None:
    courtesy = Courtesy(young_seconds=LONG)
    with runs(courtesy, "ann", "ann", "ann"):
        assert passed(courtesy, "bob").wait(PATIENCE)


def test_a_thread_without_a_run_does_not_wait() -> None:
    courtesy = Courtesy(young_seconds=LONG)
    with runs(courtesy, "ann", "ann", "ann", "bob"):
        courtesy.give_way()
