"""A property that is built once per object, also when threads ask for it together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)


class once(cached_property[T_co]):  # noqa: N801 used as a decorator, like the one it extends
    """`functools.cached_property` with the lock that it lost in Python 3.12.

    Two threads would each build a value there, and the loser's connections, children and caches leak.
    """

    def __init__(self, build: Callable[[Any], T_co]) -> None:
        super().__init__(build)
        self._building = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T_co: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | T_co:
        """Look again under the lock: another thread may have built it meanwhile."""
        if instance is None:
            return self
        with self._building:
            return super().__get__(instance, owner)
