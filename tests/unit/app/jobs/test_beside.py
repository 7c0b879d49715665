from __future__ import annotations

import threading

from app.jobs.beside import Beside

PATIENCE = 30.0


class Slow:
    """Does what it is told to do once it may, and remembers it."""

    def __init__(self) -> None:
        self.begun, self.may = threading.Event(), threading.Event()
        self.done: list[str] = []

    def __call__(self, what: str) -> None:
        self.begun.set()
        assert self.may.wait(PATIENCE)
        self.done.append(what)


def test_what_is_asked_for_many_times_meanwhile_is_done_once_more() -> None:
    slow = Slow()
    beside = Beside(slow)
    beside.ask("one")
    assert slow.begun.wait(PATIENCE)
    for _ in range(100):
        beside.ask("one")
    slow.may.set()
    beside.end()
    assert slow.done == ["one", "one"]


def test_what_was_asked_for_is_done_before_the_end() -> None:
    slow = Slow()
    beside = Beside(slow)
    for what in ("one", "two", "three"):
        beside.ask(what)
    slow.may.set()
    beside.end()
    assert sorted(slow.done) == ["one", "three", "two"]


def test_a_failure_ends_nothing() -> None:
    done = []

    def act(what: str) -> None:
        if what == "bad":
            raise ValueError(what)
        done.append(what)

    beside = Beside(act)
    beside.ask("bad")
    beside.ask("good")
    beside.end()
    assert done == ["good"]
