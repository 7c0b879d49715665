"""The collections pool: files become items. `dramatiq tasks.collections:broker` runs it."""

from __future__ import annotations

from app.container import Services
from app.jobs.contracts import DeleteObjects, ExtractFile, PlanCollectionTransform
from app.services.jobs import Run
from tasks.actor import Handlers
from tasks.worker import start

handlers = Handlers()


@handlers.handles(PlanCollectionTransform)
def plan(services: Services, run: Run, contract: PlanCollectionTransform) -> None:
    """Find the files to do."""
    services.planning.plan_collection_transform(run, contract.collection_transform_id)


@handlers.handles(ExtractFile)
def extract_file(services: Services, run: Run, contract: ExtractFile) -> None:
    """Extract and chunk one file."""
    services.extraction_runs.extract_file(run, contract)


@handlers.handles(DeleteObjects)
def delete_objects(services: Services, run: Run, contract: DeleteObjects) -> None:
    """Delete stored objects."""
    services.extraction_runs.delete_objects(run, contract.keys)


def broker() -> None:
    """Set up this worker process; the `dramatiq` command calls it after the fork."""
    start("collections", handlers)
