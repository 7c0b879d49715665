"""Runs of the datasets pool: chunks become vectors; vectors of what is gone are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.errors import InputRefusedError, NotFoundError
from app.events.ports import StatusPublisher
from app.jobs.contracts import DeleteItemVectors, EmbedItems, PlanDatasetTransform
from app.observability import metrics
from app.pipeline.embedding.base import Embedder
from app.pipeline.embedding.isolation import embed_each
from app.services.embedding_parts import PART, Counts, Passage, Seen, Target, as_read, parts
from app.services.embedding_writes import PartWriter, RunIndex, Write
from app.services.jobs import Jobs, Run
from app.services.status import tell
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DatasetTransform, EmbeddedDataset, Item, ItemEmbedding
from app.storage.qdrant import VectorStore

_KEPT = {"read": True, "key_share": True}  # nobody deletes it meanwhile; changing it is allowed


@dataclass(frozen=True, slots=True)
class EmbeddingRuns:
    """Verbs of the embedding jobs. `embedder` opens the client of an owner's embedder."""

    database: Database
    jobs: Jobs
    status: StatusPublisher
    vectors: VectorStore
    embedder: Callable[[str, int], Embedder]
    write_waits_seconds: tuple[float, ...] = (1.0, 3.0, 9.0)

    def embed_items(self, run: Run, contract: EmbedItems) -> None:
        """Embed the chunks of the items and write them to the vector index.

        Items that were deleted or edited since planning are left to the plan that their change caused.
        Raises the errors of Embedder.embed, DimensionMismatchError and UnavailableError.
        """
        loaded = self._load(run, contract)
        if loaded is None:
            return
        target, items = loaded
        index = RunIndex(self.database, self.jobs, self.vectors, run, target, items)
        counts, seen = Counts(), {item.item_id: Seen(item) for item in items}
        if items:
            try:
                client = self.embedder(target.owner_id, target.embedder_id)
            except NotFoundError:  # nothing keeps the embedder of an embedded dataset that was deleted
                if self._is_gone(run, target):
                    return
                raise
            index.open()
            self._embed(index, client, seen, counts)
        self._finish(index, seen, counts)
        tell(self.status, target.subject, "success", job_id=run.job_id, **asdict(counts))

    def delete_item_vectors(self, run: Run, contract: DeleteItemVectors) -> None:
        """Delete the vectors of items that are gone; an item that came back is kept."""
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            target = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            if target is not None:
                # Locked until the vectors are gone: a run that embeds these items just now writes no more.
                gone = session.scalars(
                    select(ItemEmbedding)
                    .where(
                        ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
                        ItemEmbedding.item_id.in_(contract.item_ids),
                        ~exists().where(
                            Item.item_id == ItemEmbedding.item_id,
                            Item.dataset_id == target.source_dataset_id,
                        ),
                    )
                    .order_by(ItemEmbedding.item_id)
                    .with_for_update()
                ).all()
                self.vectors.delete_items(target.collection_name, [row.item_id for row in gone])
                for row in gone:
                    session.delete(row)
            self.jobs.finish(session, run)

    def drop_vector_index(self, run: Run, collection_name: str) -> None:
        """Drop an index that no embedded dataset names any more."""
        with self.database.transaction() as session:
            named = exists().where(EmbeddedDataset.collection_name == collection_name)
            in_use = session.scalar(select(named))
        if not in_use:
            self.vectors.drop(collection_name)
        with self.database.transaction() as session:
            self.jobs.finish(session, run)

    def _load(self, run: Run, contract: EmbedItems) -> tuple[Target, list[Item]] | None:
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            row = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            if row is None:
                self.jobs.finish(session, run, outcome={"skipped": "the embedded dataset was deleted"})
                return None
            transform = session.get(DatasetTransform, row.dataset_transform_id, with_for_update=_KEPT)
            if transform is not None and not transform.is_enabled:
                # Read again and kept so: the plan of somebody who enables it just now must not count on us.
                session.refresh(transform, with_for_update={"read": True})
            if transform is None or not transform.is_enabled:
                reason = "deleted" if transform is None else "disabled"
                self.jobs.finish(session, run, outcome={"skipped": f"the transform is {reason}"})
                return None
            wanted = (
                (ItemEmbedding.embedded_dataset_id == row.embedded_dataset_id)
                & (ItemEmbedding.item_id == Item.item_id)
                & (ItemEmbedding.content_hash == Item.content_hash)
                & (ItemEmbedding.state == "pending")
            )
            items = session.scalars(
                select(Item).join(ItemEmbedding, wanted).where(Item.item_id.in_(contract.item_ids))
            ).all()
            session.execute(
                update(ItemEmbedding)
                .where(
                    ItemEmbedding.embedded_dataset_id == row.embedded_dataset_id,
                    tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(as_read(items)),
                )
                .values(job_id=run.job_id)
            )
        return Target.of(row, run.planned_by), list(items)

    def _is_gone(self, run: Run, target: Target) -> bool:
        with self.database.transaction() as session:
            gone = session.get(EmbeddedDataset, target.embedded_dataset_id) is None
            if gone:
                self.jobs.finish(session, run, outcome={"skipped": "the embedded dataset was deleted"})
        return gone

    def _embed(self, index: RunIndex, client: Embedder, seen: dict[int, Seen], counts: Counts) -> None:
        target = index.target
        with PartWriter(index.write, self.write_waits_seconds) as writer:
            for part in parts(self.database, target, index.items):
                writer.put(self._embed_part(target, client, part, seen, counts))
                if counts.chunks > PART:
                    tell(
                        self.status,
                        target.subject,
                        "processing",
                        job_id=index.run.job_id,
                        chunks=counts.chunks,
                    )

    def _embed_part(
        self,
        target: Target,
        client: Embedder,
        part: Sequence[Passage],
        seen: dict[int, Seen],
        counts: Counts,
    ) -> Write:
        # A chunk's id says all that its vector is made of: what the index holds is not paid for again.
        # And where the index does not answer, nothing is paid for that could not be written.
        stored = self.vectors.payloads(target.index, [passage.chunk.chunk_id for passage in part])
        missing = [passage for passage in part if passage.chunk.chunk_id not in stored]
        with metrics.stage("embedding"):
            result = embed_each(client, [passage.chunk.text for passage in missing])
        for passage in part:
            seen[passage.chunk.item_id].chunk_ids.append(passage.chunk.chunk_id)
        for row, error in result.refused.items():
            seen[missing[row].chunk.item_id].refused[missing[row].chunk.chunk_id] = error
        counts.add(len(part), len(missing), result)
        moved = [each for each in part if stored.get(each.chunk.chunk_id, each.payload) != each.payload]
        return Write(missing, result.vectors, moved)

    def _finish(self, index: RunIndex, seen: dict[int, Seen], counts: Counts) -> None:
        """Leave in the index what the items hold, and write the outcomes. Raises VectorsMissingError."""
        run, target = index.run, index.target
        with index.reopened(), index.held(ending=True) as (session, current):
            whole = [each for key, each in seen.items() if key in current and each.whole]
            counts.items_refused = sum(bool(each.refused) for each in whole)
            index.keep_only(whole)
            _write_outcomes(session, target, whole)
            if self._left(session, run):  # edited meanwhile, and the plan for that may have counted on us
                again = PlanDatasetTransform(target.transform_id)
                self.jobs.outbox.record(session, again, owner_id=target.owner_id)
            self.jobs.finish(session, run, outcome=asdict(counts))

    def _left(self, session: Session, run: Run) -> bool:
        mine = (ItemEmbedding.job_id == run.job_id) & (ItemEmbedding.state == "pending")
        return bool(session.scalar(select(exists().where(mine))))


def _write_outcomes(session: Session, target: Target, seen: Iterable[Seen]) -> None:
    taken = [each.item for each in seen if not each.refused]
    if taken:
        _write_outcome(session, target, taken, refusal=None)
    for each in seen:
        if each.refused:
            _write_outcome(session, target, [each.item], refusal=each.refusal())


def _write_outcome(session: Session, target: Target, items: Iterable[Item], *, refusal: str | None) -> None:
    session.execute(
        update(ItemEmbedding)
        .where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
            tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(as_read(items)),
        )
        .values(
            state="failed" if refusal else "succeeded",
            error_code=InputRefusedError.code if refusal else None,
            error_message=refusal,
            processed_at=func.now(),
        )
    )
