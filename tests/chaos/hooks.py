"""The workers of `make chaos`: the product's own, with traps for marked files and, on request, broken.

`dramatiq tests.chaos.hooks:collections` runs one. CHAOS_BROKEN names what is taken away, so that it can be
seen that the checker notices: `fence` (stale runs may write), `ack` (a job counts as done before its results
are written), `watermark` (a plan looks only at items above the last one that it knows).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, update

import tasks.collections
import tasks.datasets
import tasks.visualizations
from app.errors import UnavailableError
from app.services import planning
from app.services.embedding_runs import EmbeddingRuns
from app.services.extraction_runs import ExtractionRuns
from app.services.jobs import Jobs, Run
from app.storage.postgres.tables import EmbeddedDataset, Item, ItemEmbedding, Job
from tasks.watch import Watch

BOMB = "bomb"  # a file whose name begins so kills the worker that reads it, every time
HUNGRY = "hungry"  # a file whose name begins so needs much memory, and so does a text that begins so
STUBBORN = "stubborn"  # a file whose name begins so can never be read just now
HUNGER_BYTES = 1 << 30  # asked for and never touched: it costs no memory


def collections() -> None:
    """The collections pool."""
    _arrange()
    tasks.collections.broker()


def datasets() -> None:
    """The datasets pool."""
    _arrange()
    tasks.datasets.broker()


def visualizations() -> None:
    """The visualizations pool."""
    _arrange()
    tasks.visualizations.broker()


def _arrange() -> None:
    _lay_traps()
    broken = os.environ.get("CHAOS_BROKEN")  # noqa: TID251 - a tool's own variable
    if broken:
        BROKEN[broken]()


def _lay_traps() -> None:
    read, embed = ExtractionRuns._read, EmbeddingRuns._embed_part

    def read_or_fail(self: ExtractionRuns, work: Any) -> Any:
        if work.file.name.startswith(BOMB):
            os.kill(os.getpid(), signal.SIGKILL)
        if work.file.name.startswith(STUBBORN):
            raise UnavailableError("this file can never be read just now")
        if work.file.name.startswith(HUNGRY):
            bytes(HUNGER_BYTES)
        return read(self, work)

    def embed_or_fail(self: EmbeddingRuns, target: Any, client: Any, part: Any, *more: Any) -> Any:
        if any(passage.chunk.text.startswith(HUNGRY) for passage in part):
            bytes(HUNGER_BYTES)
        return embed(self, target, client, part, *more)

    ExtractionRuns._read = read_or_fail  # type: ignore[method-assign]
    EmbeddingRuns._embed_part = embed_or_fail  # type: ignore[method-assign, assignment]


def _without_fence() -> None:
    Jobs.fence = lambda *_: None  # type: ignore[method-assign]
    Watch.look = lambda _: 0  # type: ignore[method-assign, assignment]


def _done_before_it_is_written() -> None:
    _without_fence()
    begin = Jobs.begin

    def hasty(self: Jobs, job_id: UUID, worker: str, **which: Any) -> Run | None:
        run = begin(self, job_id, worker, **which)
        if run is not None:
            with self.database.transaction() as session:
                done = {"state": "succeeded", "finished_at": func.now(), "run_token": None}
                session.execute(update(Job).where(Job.job_id == job_id).values(done))
        return run

    Jobs.begin = hasty  # type: ignore[method-assign]


def _with_watermark() -> None:
    find = planning._items_to_do

    def above(target: EmbeddedDataset, after: int) -> Select[tuple[int, str, int]]:
        known = select(func.coalesce(func.max(ItemEmbedding.item_id), 0)).where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id
        )
        return find(target, after).where(Item.item_id > known.scalar_subquery())

    planning._items_to_do = above


BROKEN: dict[str, Callable[[], None]] = {
    "ack": _done_before_it_is_written,
    "fence": _without_fence,
    "watermark": _with_watermark,
}
