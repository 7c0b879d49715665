"""The Celery application: late ack, no results, threads; `celery -A tests.bench.broker.app_celery worker`."""

from __future__ import annotations

import importlib

from tests.bench.broker import bodies
from tests.bench.broker.run import QUEUE, current

app = importlib.import_module("celery").Celery("bench", broker=current().url)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=QUEUE,
    broker_pool_limit=16,  # as many as there are enqueueing threads
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": current().lease_seconds},
)
work = app.task(bodies.work, name="work")
