"""Cancelling: what waits never starts, what runs stops, and the rows say so until somebody asks again.

Each verb locks the transform, then its jobs, then the rows that wait for them. The transform is only held
against its owner's other requests: runs and plans, which hold their own job first, never wait for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, CursorResult, func, select, update
from sqlalchemy.orm import Session

from app.errors import ConflictError, JobCancelledError, NotFoundError
from app.events.ports import StatusPublisher
from app.jobs.contracts import (
    BuildVisualization,
    Contract,
    EmbedItems,
    ExtractFile,
    PlanCollectionTransform,
    PlanDatasetTransform,
)
from app.security.principal import Principal
from app.services.failures import mark_failed
from app.services.jobs import Jobs, JobView, owned_job
from app.services.status import Subject, tell
from app.storage.postgres.queries.cancelled import mark_files, mark_items, mark_of_run
from app.storage.postgres.queries.owned import held, owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    FileExtraction,
    ItemEmbedding,
    Job,
    Visualization,
    VisualizationTransform,
)

_FILES = JobCancelledError("cancelled by its owner; retry to have it read")
_ITEMS = JobCancelledError("cancelled by its owner; retry to have it embedded")
_MAPS = JobCancelledError("cancelled by its owner; build it again when you want it")
_CAUSES = {
    ExtractFile.kind: _FILES,
    PlanCollectionTransform.kind: _FILES,
    EmbedItems.kind: _ITEMS,
    BuildVisualization.kind: _MAPS,
}


def is_cancellable(kind: str) -> bool:
    """Whether jobs of this kind may be stopped one by one."""
    return kind in _CAUSES


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was stopped: jobs that waited and jobs that ran, and how many files, items or maps will not come.

    Those are more than the jobs' where a plan had not recorded jobs for all of them yet.
    """

    waiting: int
    running: int
    affected: int


@dataclass(frozen=True, slots=True)
class Cancelling:
    """Verbs that stop work. Asked for again, they find nothing and change nothing."""

    database: Database
    jobs: Jobs
    status: StatusPublisher

    def collection_transform(self, principal: Principal, collection_transform_id: int) -> Cancelled:
        """Stop its plan and its files; raises NotFoundError."""
        with self.database.transaction() as session:
            row = held(session, CollectionTransform, collection_transform_id, principal.owner_id)
            scope = _scope(ExtractFile, [collection_transform_id])
            # The plan in a statement of its own: the next one then sees every job that it has recorded.
            states = self.jobs.cancel(session, *scope, Job.kind == PlanCollectionTransform.kind)
            states = [*states, *self.jobs.cancel(session, *scope)]
            marked = mark_files(session, row, _FILES, job_id=uuid4())
        subject = Subject("collection", collection_transform_id, row.collection_id, row.owner_id)
        return self._told(subject, _cancelled(states, marked), _FILES)

    def dataset_transform(self, principal: Principal, dataset_transform_id: int) -> Cancelled:
        """Stop its embedding; its plan goes on, as that cleans up, too, and finds nothing to embed.

        Raises NotFoundError.
        """
        with self.database.transaction() as session:
            row = held(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            targets = _hold_targets(session, dataset_transform_id)
            _hold_plan(session, dataset_transform_id)
            ids = [target.embedded_dataset_id for target in targets]
            states = self.jobs.cancel(session, *_scope(EmbedItems, ids), Job.kind == EmbedItems.kind)
            marked = sum(
                mark_items(session, target, _ITEMS, job_id=uuid4(), is_enabled=row.is_enabled)
                for target in targets
            )
        subject = Subject("dataset", dataset_transform_id, row.source_dataset_id, row.owner_id)
        return self._told(subject, _cancelled(states, marked), _ITEMS)

    def collection_run(self, principal: Principal, collection_transform_id: int, run_id: UUID) -> Cancelled:
        """Stop one run of it: the plan, and the files that it asked for; raises NotFoundError."""
        with self.database.transaction() as session:
            row = held(session, CollectionTransform, collection_transform_id, principal.owner_id)
            _expect_run(session, PlanCollectionTransform(collection_transform_id), run_id)
            plan = self.jobs.cancel(session, Job.job_id == run_id)
            states = [*plan, *self.jobs.cancel(session, Job.planned_by == run_id)]
            marked = mark_of_run(session, FileExtraction, run_id, _FILES)
            if plan:  # and those that it had not reached
                marked += mark_files(session, row, _FILES, job_id=run_id)
        subject = Subject("collection", collection_transform_id, row.collection_id, row.owner_id, run_id)
        return self._told(subject, _cancelled(states, marked), _FILES)

    def dataset_run(self, principal: Principal, dataset_transform_id: int, run_id: UUID) -> Cancelled:
        """Stop the embedding that one run of it asked for, and would ask for; raises NotFoundError."""
        with self.database.transaction() as session:
            row = held(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            targets = _hold_targets(session, dataset_transform_id)
            _hold_plan(session, dataset_transform_id)
            plan_state = _expect_run(session, PlanDatasetTransform(dataset_transform_id), run_id)
            states = self.jobs.cancel(session, Job.planned_by == run_id)
            marked = mark_of_run(session, ItemEmbedding, run_id, _ITEMS)
            for target in targets if plan_state in ACTIVE_STATES else ():
                marked += mark_items(session, target, _ITEMS, job_id=run_id, is_enabled=row.is_enabled)
        subject = Subject("dataset", dataset_transform_id, row.source_dataset_id, row.owner_id, run_id)
        return self._told(subject, _cancelled(states, marked), _ITEMS)

    def visualization_transform(self, principal: Principal, visualization_transform_id: int) -> Cancelled:
        """Stop the map that it makes; raises NotFoundError."""
        with self.database.transaction() as session:
            row = held(session, VisualizationTransform, visualization_transform_id, principal.owner_id)
            scope = _scope(BuildVisualization, [visualization_transform_id])
            states = self.jobs.cancel(session, *scope)
            which = Visualization.visualization_transform_id == visualization_transform_id
            marked = _mark_maps(session, which)
        return self._told(_map_subject(row), _cancelled(states, marked), _MAPS)

    def visualization(self, principal: Principal, visualization_id: int) -> Cancelled:
        """Stop the making of this map; raises NotFoundError."""
        with self.database.transaction() as session:
            run = owned(session, Visualization, visualization_id, principal.owner_id)
            key = run.visualization_transform_id
            row = held(session, VisualizationTransform, key, principal.owner_id)
            states = self.jobs.cancel(session, Job.job_id == run.job_id)
            marked = _mark_maps(session, Visualization.visualization_id == visualization_id)
        return self._told(_map_subject(row), _cancelled(states, marked), _MAPS)

    def job(self, principal: Principal, job_id: UUID) -> JobView:
        """Stop one job; returns it as it is then.

        Raises NotFoundError unless it is the owner's, and ConflictError where it has ended, or where it is
        of a kind that must be carried out.
        """
        with self.database.transaction() as session:
            job = owned_job(session, principal, job_id)
            cause = _cause(job)
            planned = _hold_planned(session, job)
            if not self.jobs.cancel(session, Job.job_id == job_id):
                session.refresh(job)
                raise ConflictError(f"the job has ended already: it is {job.state}")
            if planned is not None and mark_files(session, planned, cause, job_id=job_id):
                key = planned.collection_transform_id
                subjects = [Subject("collection", key, planned.collection_id, planned.owner_id)]
            else:
                _hold_embeddings(session, job_id)
                subjects = mark_failed(session, job_id, cause)
        for subject in subjects:
            tell(self.status, subject, "failed", job_id=job_id, error=cause.message)
        return self.jobs.get(principal, job_id)

    def _told(self, subject: Subject, found: Cancelled, cause: JobCancelledError) -> Cancelled:
        if found.waiting or found.running or found.affected:
            tell(self.status, subject, "failed", error=cause.message, cancelled=found.affected)
        return found


def _scope(contract: type[Contract], ids: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    return Job.scope_kind == contract.scope_kind, Job.scope_id.in_(ids)


def _expect_run(session: Session, plan: Contract, run_id: UUID) -> str:
    """The state of the run's plan; raises NotFoundError where it is none of this transform."""
    which = Job.job_id == run_id, Job.kind == plan.kind, Job.scope_id == plan.scope_id
    state = session.scalar(select(Job.state).where(*which))
    if state is None:
        raise NotFoundError(f"no run {run_id} of this transform")
    return state


def _cancelled(states: Sequence[str], affected: int) -> Cancelled:
    running = sum(state == "running" for state in states)
    return Cancelled(waiting=len(states) - running, running=running, affected=affected)


def _hold_targets(session: Session, dataset_transform_id: int) -> Sequence[EmbeddedDataset]:
    """As the foreign key of the rows to come will; a deletion takes the target and then those rows, too."""
    targets = select(EmbeddedDataset).where(EmbeddedDataset.dataset_transform_id == dataset_transform_id)
    ordered = targets.order_by(EmbeddedDataset.embedded_dataset_id)
    return session.scalars(ordered.with_for_update(read=True, key_share=True)).all()


def _hold_plan(session: Session, dataset_transform_id: int) -> None:
    """Wait for the page that an active plan records just now, and let no other begin.

    Whoever asks for a plan (a run that ends may) is not kept waiting by this lock.
    """
    plan = select(Job.job_id).where(
        *_scope(PlanDatasetTransform, [dataset_transform_id]), Job.state.in_(ACTIVE_STATES)
    )
    session.execute(plan.with_for_update(read=True, key_share=True)).all()


def _hold_planned(session: Session, job: Job) -> CollectionTransform | None:
    """The transform of a plan of files; None for other jobs, and where it was deleted."""
    if job.kind != PlanCollectionTransform.kind:
        return None
    key = CollectionTransform.collection_transform_id == job.scope_id
    return session.scalar(select(CollectionTransform).where(key).with_for_update(read=True))


def _hold_embeddings(session: Session, job_id: UUID) -> None:
    """In the order in which others lock them, before they are changed in any."""
    rows = select(ItemEmbedding.item_id).where(ItemEmbedding.job_id == job_id)
    session.execute(rows.order_by(ItemEmbedding.item_id).with_for_update()).all()


def _mark_maps(session: Session, which: ColumnElement[bool]) -> int:
    result = session.execute(
        update(Visualization)
        .where(which, Visualization.status.in_(("pending", "processing")))
        .values(status="failed", completed_at=func.now(), error_message=_MAPS.message)
    )
    return cast("CursorResult[Any]", result).rowcount


def _map_subject(row: VisualizationTransform) -> Subject:
    key = row.visualization_transform_id
    return Subject("visualization", key, row.embedded_dataset_id, row.owner_id)


def _cause(job: Job) -> JobCancelledError:
    if job.kind == PlanDatasetTransform.kind:
        raise ConflictError(
            "a plan of embedding also deletes vectors of what is gone, so it is never cancelled: cancel the "
            "dataset transform, and the plan finds nothing to embed"
        )
    if job.kind not in _CAUSES:
        raise ConflictError(
            f"a {job.kind} job deletes what was asked to be deleted, or what nothing names any more, so it "
            "is never cancelled"
        )
    return _CAUSES[job.kind]
