"""The entry point of a worker process: settings, logs, container, actors, middleware, readiness."""

from __future__ import annotations

import sys

import dramatiq
from dramatiq.middleware import CurrentMessage

from app.config import Settings
from app.container import Container, build
from app.jobs.pools import POOLS
from app.observability import logging as log_setup
from app.observability import metrics, tracing
from tasks.actor import Handlers, declare
from tasks.letters import LetterKeeping
from tasks.middleware import Admitting, DeadLetters, Housekeeping, Readiness
from tasks.scope import Scope
from tasks.watch import Watch

# How long a thread that computes keeps the interpreter from one that comes back from a server. The jobs of a
# pool ask servers dozens of times each: with Python's 5 ms a small one waits long beside a crowd.
_SWITCH_SECONDS = 0.001


def start(pool: str, handlers: Handlers) -> Container:
    """Make this process a worker of `pool`. Raises InvalidInputError for settings that cannot work."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    settings = Settings.from_env()
    service = f"worker-{pool}"
    log_setup.configure(service, settings.log_level, settings.log_format, directives=settings.rust_log)
    metrics.announce(service, log_setup.product_version())
    tracing.configure(service, settings.otel_exporter_otlp_endpoint)
    container = build(settings)
    prepare(container, pool, handlers)
    dramatiq.set_broker(container.broker)
    return container


def prepare(container: Container, pool: str, handlers: Handlers) -> None:
    """Declare the actors of `pool` on the container's broker, with what surrounds them."""
    if pool not in POOLS:
        raise ValueError(f"no pool {pool!r}; there are {', '.join(POOLS)}")
    broker = container.broker
    broker.add_middleware(CurrentMessage())
    broker.add_middleware(DeadLetters(container, pool))
    broker.add_middleware(Readiness(container, pool))
    broker.add_middleware(Admitting(container))
    watch = Watch(lambda: container.database)
    broker.add_middleware(watch)
    if pool == "collections" and container.settings.reconcile_interval_secs:
        broker.add_middleware(Housekeeping(container))
        broker.add_middleware(LetterKeeping(container))
    declare(broker, handlers, container.policies, Scope(container, pool, watch).wrap)
