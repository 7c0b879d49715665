"""The datasets pool: chunks become vectors. `dramatiq tasks.datasets:broker` runs it."""

from __future__ import annotations

from app.container import Services
from app.jobs.contracts import DeleteItemVectors, DropVectorIndex, EmbedItems, PlanDatasetTransform
from app.services.jobs import Run
from tasks.actor import Handlers
from tasks.worker import start

handlers = Handlers()


@handlers.handles(PlanDatasetTransform)
def plan(services: Services, run: Run, contract: PlanDatasetTransform) -> None:
    """Find the items to embed and the vectors to delete."""
    services.planning.plan_dataset_transform(run, contract.dataset_transform_id)


@handlers.handles(EmbedItems)
def embed_items(services: Services, run: Run, contract: EmbedItems) -> None:
    """Embed a batch of items."""
    services.embedding_runs.embed_items(run, contract)


@handlers.handles(DeleteItemVectors)
def delete_item_vectors(services: Services, run: Run, contract: DeleteItemVectors) -> None:
    """Delete the vectors of deleted items."""
    services.embedding_runs.delete_item_vectors(run, contract)


@handlers.handles(DropVectorIndex)
def drop_vector_index(services: Services, run: Run, contract: DropVectorIndex) -> None:
    """Drop the index of a deleted embedded dataset."""
    services.embedding_runs.drop_vector_index(run, contract.collection_name)


def broker() -> None:
    """Set up this worker process; the `dramatiq` command calls it after the fork."""
    start("datasets", handlers)
