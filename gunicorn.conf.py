"""What gunicorn's command line cannot say: how connections end, who keeps to which CPU."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any

from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from app.api.context import EXTENSION
from app.api.guard import FINISHED_BYTES
from app.api.sse import DRAINING
from app.config import Settings
from app.errors import InvalidInputError
from app.observability import logging as log_setup
from app.observability.metrics import are_shared, forget_processes

# This file is no module of ours to Python, but its lines are: the log filter knows them by `app`.
_log = logging.getLogger("app.gunicorn")


class OurLogger(Logger):
    """The lines of gunicorn look like ours from the first one on, before there is an application."""

    def setup(self, cfg: Any) -> None:
        """Called at the start, and when the configuration is read again."""
        super().setup(cfg)
        if (settings := _settings()) is not None:
            log_setup.configure("api", settings.log_level, settings.log_format, directives=settings.rust_log)


logger_class = OurLogger

# It would lie in the user's home, one for all installations.
control_socket_disable = True

# A search term and a continuation token in other scripts than Latin are long once they are escaped.
limit_request_line = 8190

# Longer than the idle time of clients and load balancers (60 s): whoever closes first must not be the server,
# or a request may meet a connection that is just being closed.
keepalive = 75


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the CPU that fewest other processes keep to; among equals by lot, as other pods here do.

    Python runs one thread of a process at a time. Threads on several CPUs hand the interpreter from one to
    the other, which takes as long as a small request itself (docs/benchmarks/api.md).
    """
    settings = _settings()
    if settings is not None and settings.web_cpu_affinity and hasattr(os, "sched_getaffinity"):
        taken = Counter(getattr(other, "cpu", None) for other in server.WORKERS.values())
        cpus = list(os.sched_getaffinity(0))
        random.shuffle(cpus)
        worker.cpu = min(cpus, key=taken.__getitem__)


def post_fork(_server: Any, worker: Any) -> None:
    """Before the process has other threads: they are bound to go where it goes."""
    if getattr(worker, "cpu", None) is not None:
        os.sched_setaffinity(0, {worker.cpu})


def _settings() -> Settings | None:
    """None where they cannot be read, which the application tells in words."""
    with suppress(InvalidInputError):
        return Settings.from_env()
    return None


def pre_request(_worker: Any, request: Any) -> None:
    """A large body may be refused unread, and its connection then closes: every answer to one must say so.

    Else the client would send its next request on a connection that is just being closed.
    """
    headers = dict(request.headers)
    length = headers.get("CONTENT-LENGTH", "")
    if "TRANSFER-ENCODING" in headers or (length.isdecimal() and int(length) > FINISHED_BYTES):
        request.force_close()


def post_worker_init(worker: Any) -> None:
    """Let the application ask whether this worker was told to stop; say what seals secrets.

    What is loaded by now stays for good: the collector of garbage need not walk through it time and again,
    for which requests would stand still.
    """
    worker.wsgi.extensions[EXTENSION].secrets.keyring.announce()
    worker.wsgi.extensions[DRAINING] = lambda: not worker.alive
    gc.collect()
    gc.freeze()
    _log.info("API server started")
    if worker.cfg.workers > 1 and not are_shared():
        _log.warning(
            "%d processes answer at /metrics, each for itself: set PROMETHEUS_MULTIPROC_DIR to a folder of "
            "their own", worker.cfg.workers,
        )  # fmt: skip


def on_starting(server: Any) -> None:
    """Numbers of an earlier life, whose process ids come again, must not be added to ours."""
    forget_processes()
    _share_connections(server.cfg.workers)


def _share_connections(processes: int) -> None:
    """Postgres' connections are those of all processes together. SystemExit where there are too few."""
    settings = _settings()
    if processes == 1 or settings is None:
        return
    most = settings.db_max_connections
    if most < processes:
        _log.error("cannot start: DB_MAX_CONNECTIONS is %d, fewer than the %d processes", most, processes)
        raise SystemExit(3)  # as where a process of gunicorn does not come up
    shares = {"DB_MAX_CONNECTIONS": most, "DB_MIN_CONNECTIONS": settings.db_min_connections}
    os.environ.update({name: str(value // processes) for name, value in shares.items()})  # noqa: TID251 for them


def child_exit(_server: Any, worker: Any) -> None:
    """What a dead process had open is not open any more; what it counted stays counted."""
    if are_shared():
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
