"""Workers that are replaced after some jobs."""

from __future__ import annotations

import dramatiq

from brokers import MaxTasksPerChild
from tests.integration.broker import actors

JOBS_PER_PROCESS = 15


def set_up() -> None:
    actors.set_up()
    dramatiq.get_broker().add_middleware(MaxTasksPerChild(JOBS_PER_PROCESS))
