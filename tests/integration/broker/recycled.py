"""Workers that are replaced after some jobs: Dramatiq has no option for it, but it allows a middleware."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from tests.integration.broker import actors

JOBS_PER_PROCESS = 30


class Recycle(Middleware):
    """Asks the command line, our parent, for a hot restart once this process has done its share."""

    def __init__(self) -> None:
        self._left = JOBS_PER_PROCESS
        self._lock = threading.Lock()

    def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getppid(), signal.SIGHUP)


def set_up() -> None:
    actors.set_up()
    dramatiq.get_broker().add_middleware(Recycle())
