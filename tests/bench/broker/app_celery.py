"""The Celery application: late ack, no results, threads; `celery -A tests.bench.broker.app_celery worker`."""

from __future__ import annotations

import importlib

from tests.bench.broker import bodies
from tests.bench.broker.run import QUEUE, current

# Looks for the jobs of dead workers every 100 s by default; where that is what we wait for, every second.
_SOON = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}

app = importlib.import_module("celery").Celery("bench", broker=current().url)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=QUEUE,
    broker_pool_limit=16,  # as many as there are enqueueing threads
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": current().lease_seconds,
        **(_SOON if current().leases_are_short else {}),
    },
)
work = app.task(bodies.work, name="work")
