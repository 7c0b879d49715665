from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from app.container import Container, Services
from app.once import once


class House:
    def __init__(self) -> None:
        self.built = 0

    @once
    def kitchen(self) -> object:
        """What takes a moment to build."""
        time.sleep(0.05)
        self.built += 1
        return object()


def test_threads_that_ask_together_get_the_same_thing():
    house, together = House(), Barrier(8)

    def ask(_: int) -> object:
        together.wait()
        return house.kitchen

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert house.built == 1


def test_each_object_has_its_own():
    assert House().kitchen is not House().kitchen


def test_what_the_container_holds_is_built_once():
    for holder in (Container, Services):
        kept = [name for name, value in vars(holder).items() if hasattr(value, "attrname")]
        assert kept
        assert all(isinstance(vars(holder)[name], once) for name in kept)
