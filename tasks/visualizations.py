"""The visualizations pool: vectors become maps. `dramatiq tasks.visualizations:broker` runs it."""

from __future__ import annotations

from app.container import Services
from app.jobs.contracts import BuildVisualization
from app.services.jobs import Run
from tasks.actor import Handlers
from tasks.worker import start

handlers = Handlers()


@handlers.handles(BuildVisualization)
def build(services: Services, run: Run, contract: BuildVisualization) -> None:
    """Compute one map."""
    services.visualization_runs.build(run, contract)


def broker() -> None:
    """Set up this worker process; the `dramatiq` command calls it after the fork."""
    start("visualizations", handlers)
