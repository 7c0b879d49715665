"""The life of a job: begin, finish, fail, cancel. docs/job-states.md has the diagram.

A run is fenced: `begin` writes a fresh token, and every transaction that writes results calls `fence`
with it. A worker that was paused past its lease finds another token there and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Table, bindparam, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.errors import ExplorerError, JobCancelledError, NotFoundError
from app.jobs import contracts
from app.jobs.contracts import Contract
from app.jobs.outbox import Envelope, Outbox
from app.jobs.policy import PATIENCE, due_by, expected_by
from app.security.principal import Principal
from app.services.job_filters import JobFilter, sees_all
from app.services.job_owners import foreign_scope
from app.services.paging import Page, check_window
from app.services.views import columns_of, view
from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.queries.listing import Listing
from app.storage.postgres.session import Database
from app.storage.postgres.tables.jobs import ACTIVE_STATES, Job

_log = logging.getLogger(__name__)

_ERROR_LENGTH = 2000
_FENCED = "fenced_run"  # token of the run whose job the transaction at hand has locked
_JOBS = cast("Table", Job.__table__)  # past the mapper: each run has these statements


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at one job, by this worker."""

    job_id: UUID
    token: UUID
    contract: Contract
    owner_id: str | None
    attempt: int  # 1 and the attempts that failed: a run that was interrupted is made again as the same
    trace: Mapping[str, str] = field(default_factory=dict)  # the context that the job continues
    planned_by: UUID | None = None  # the plan that made the job: the run of a transform that it is part of


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it; one of the installation itself has no owner."""

    job_id: UUID
    kind: str
    state: str
    owner_id: str | None
    queue: str
    attempt: int
    worker: str | None
    scope_kind: str | None
    scope_id: int | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Jobs:
    """Verbs on jobs."""

    database: Database
    outbox: Outbox

    def begin(
        self, job_id: UUID, worker: str, *, publication: int = 0, kind: str | None = None, retries: int = 0
    ) -> Run | None:
        """Start a run, taking over from any earlier one; `retries` attempts failed before.

        None when the job has ended or is gone, or when the message is of an earlier publication than the
        row knows: then a newer message stands for the job, and this one must not start it twice. None also
        for a job on another owner's things, which is dead after that, and for one of another `kind` than the
        message that names it asks for: that is no message of ours.
        """
        token = uuid4()
        with self.database.transaction() as session:
            row = session.execute(_begin(job_id, token, worker, publication, kind, retries)).one_or_none()
            if row is not None:  # one less waits on the stream
                self.outbox.admit_after(session, row.queue)
                foreign = foreign_scope(session, row.kind, row.arguments, row.owner_id)
                if foreign is not None:
                    self._refuse(session, job_id, foreign)
                    return None
        if row is None:
            return None
        contract = contracts.decode(row.kind, row.arguments)
        return Run(
            job_id=job_id,
            token=token,
            contract=contract,
            owner_id=row.owner_id,
            attempt=row.attempt,
            trace=row.trace,
            planned_by=row.planned_by,
        )

    def fence(self, session: Session, run: Run) -> None:
        """Lock the job for this transaction; raises JobCancelledError if the run is no longer ours."""
        if session.info.get(_FENCED) == run.token:
            return
        owner = session.execute(
            select(Job.run_token, Job.state).where(Job.job_id == run.job_id).with_for_update()
        ).one_or_none()
        if owner is None or owner.run_token != run.token or owner.state != "running":
            state = "deleted" if owner is None else owner.state
            raise JobCancelledError(f"job {run.job_id} is no longer this worker's ({state})")
        session.info[_FENCED] = run.token

    def finish(self, session: Session, run: Run, *, outcome: Mapping[str, Any] | None = None) -> None:
        """Mark the job done, in the transaction that writes its results."""
        self.fence(session, run)
        self._end(session, run, state="succeeded", error=None, outcome=outcome)

    def retry_later(self, run: Run, error: ExplorerError, *, delay_seconds: float) -> None:
        """Record that this attempt failed and the broker will bring the job back after the delay."""
        with self.database.transaction() as session:
            session.execute(
                update(Job)
                .where(Job.job_id == run.job_id, Job.run_token == run.token, Job.state == "running")
                .values(
                    state="retrying",
                    expected_by=expected_by(delay_seconds),
                    updated_at=func.now(),
                    **_error_fields(error),
                )
            )

    def put_off(self, run: Run, error: ExplorerError, *, delay_seconds: float, retries: int) -> bool:
        """Have the job sent again after the delay, as if this run had not begun; `retries` so far stay.

        False for a job that was first put off longer ago than policy.PATIENCE, or is no longer the run's.
        """
        again = Job.publication + 1
        with self.database.transaction() as session:
            row = session.execute(
                update(Job)
                .where(Job.job_id == run.job_id, Job.run_token == run.token, Job.state == "running")
                .where(func.coalesce(Job.put_off_at, func.now()) > func.now() - PATIENCE)
                .values(
                    # Not pending: a few that wait for a provider take nobody's place (jobs/admission).
                    state="retrying",
                    publication=again,
                    attempt=retries,
                    run_token=None,
                    put_off_at=func.coalesce(Job.put_off_at, func.now()),
                    expected_by=due_by(delay_seconds),
                    updated_at=func.now(),
                    **_error_fields(error),
                )
                .returning(Job.kind, Job.queue, Job.publication)
            ).one_or_none()
            if row is not None:
                self.outbox.admit_after(session, row.queue)
                self.outbox.send_after(
                    session,
                    Envelope(run.job_id, row.kind, row.queue, row.publication, delay_seconds, retries),
                )
        return row is not None

    def fail(self, session: Session, run: Run, error: ExplorerError) -> None:
        """Mark the job dead: no attempt follows."""
        self.fence(session, run)
        self._end(session, run, state="dead", error=error)

    def bury(self, session: Session, job_id: UUID, error: ExplorerError, *, publication: int) -> bool:
        """Mark a job dead whose message was given up without a run of ours ending it (crash loop).

        False when the job had ended, or when a newer message than that of `publication` stands for it.
        """
        row = session.execute(
            update(Job)
            .where(Job.job_id == job_id, Job.state.in_(ACTIVE_STATES), Job.publication == publication)
            .values(
                state="dead",
                finished_at=func.now(),
                updated_at=func.now(),
                run_token=None,
                **_error_fields(error),
            )
            .returning(Job.kind, Job.arguments, Job.owner_id, Job.rerun, Job.queue, Job.planned_by)
        ).one_or_none()
        if row is not None:
            self.outbox.admit_after(session, row.queue)
        # A job that we cannot read was asked for again by a release that can: it will be asked for there.
        if row is not None and row.rerun and row.kind in contracts.CONTRACTS:
            contract = contracts.decode(row.kind, row.arguments)
            self._follow(session, job_id, contract, owner_id=row.owner_id, planned_by=row.planned_by)
        return row is not None

    def list(
        self,
        principal: Principal,
        wanted: JobFilter | None = None,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[JobView]:
        """The jobs that match, newest first: one's own, or for an admin everybody's.

        Raises InvalidInputError.
        """
        check_window(limit, offset)
        listing = _listing(everybody=sees_all(principal)).where(*(wanted or JobFilter()).conditions())
        with self.database.reading() as connection:
            rows, total, following = listing.page(
                connection, {"owner_id": principal.owner_id}, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def get(self, principal: Principal, job_id: UUID) -> JobView:
        """One job; raises NotFoundError."""
        with self.database.transaction() as session:
            return view(JobView, owned_job(session, principal, job_id))

    def cancel(self, session: Session, *which: ColumnElement[bool]) -> Sequence[str]:
        """Stop the active jobs that match; the states that they were in, "running" or not.

        One that waits never starts, one that runs is refused at its next write. What the jobs were to make
        is the caller's to mark (services/cancelling). Plans are locked before what they plan, each kind in
        the outbox's order: see there.
        """
        stopped = (
            select(Job.job_id, Job.state)
            .where(*which, Job.state.in_(ACTIVE_STATES))
            .order_by(Job.kind.desc(), Job.unique_key.collate("C"))
            .with_for_update()
            .cte("stopped")
        )
        rows = session.execute(
            update(Job)
            .where(Job.job_id == stopped.c.job_id)
            .values(state="cancelled", finished_at=func.now(), updated_at=func.now(), run_token=None)
            .returning(stopped.c.state, Job.queue)
            .execution_options(synchronize_session=False)
        ).all()
        for queue in {row.queue for row in rows}:
            self.outbox.admit_after(session, queue)
        return [row.state for row in rows]

    def is_current(self, run: Run) -> bool:
        """Whether the run still holds its job; long runs ask now and then."""
        with self.database.transaction() as session:
            token = session.scalar(
                select(Job.run_token).where(Job.job_id == run.job_id, Job.state == "running")
            )
        return token == run.token

    def _refuse(self, session: Session, job_id: UUID, error: ExplorerError) -> None:
        """Mark a job dead that must not be done at all, also not again."""
        _log.error("job refused: %s", error)
        session.execute(
            update(Job)
            .where(Job.job_id == job_id)
            .values(state="dead", finished_at=func.now(), run_token=None, **_error_fields(error))
        )

    def _end(
        self,
        session: Session,
        run: Run,
        *,
        state: str,
        error: ExplorerError | None,
        outcome: Mapping[str, Any] | None = None,
    ) -> None:
        session.info.pop(_FENCED, None)
        row = session.execute(
            update(_JOBS)
            .where(_JOBS.c.job_id == run.job_id)
            .values(
                state=state,
                finished_at=func.now(),
                updated_at=func.now(),
                run_token=None,
                outcome=dict(outcome or {}),
                **_error_fields(error),
            )
            .returning(_JOBS.c.rerun, _JOBS.c.planned_by)
        ).one()
        if row.rerun:
            self._follow(
                session, run.job_id, run.contract, owner_id=run.owner_id, planned_by=row.planned_by,
                delay_seconds=run.contract.again_after_seconds,
            )  # fmt: skip

    def _follow(self, session: Session, job_id: UUID, contract: Contract, **options: Any) -> None:
        """Record a job anew that was asked for while it ran. It takes the place in the run that asked."""
        self.outbox.record(session, contract, **options)
        if options["planned_by"] is not None:
            session.execute(update(_JOBS).where(_JOBS.c.job_id == job_id).values(planned_by=None))


def _begin(
    job_id: UUID, token: UUID, worker: str, publication: int, kind: str | None, retries: int
) -> ReturningUpdate[Any]:
    job = _JOBS.c
    return (
        update(_JOBS)
        .where(job.job_id == job_id, job.state.in_(ACTIVE_STATES), job.publication == publication)
        .where(job.kind == (kind or job.kind))
        .values(
            state="running",
            run_token=token,
            worker=worker,
            attempt=retries + 1,
            started_at=func.now(),
            updated_at=func.now(),
            expected_by=None,
        )
        .returning(job.kind, job.arguments, job.owner_id, job.attempt, job.trace, job.queue, job.planned_by)
    )


def owned_job(session: Session, principal: Principal, job_id: UUID) -> Job:
    """The owner's job; raises NotFoundError."""
    job = session.scalar(select(Job).where(Job.job_id == job_id, Job.owner_id == principal.owner_id))
    if job is None:
        raise NotFoundError(f"no job {job_id}")
    return job


@cache
def _listing(*, everybody: bool) -> Listing[JobView]:
    """One's own jobs, or everybody's; as `visible_to`."""
    statement = select(*columns_of(JobView, Job))
    if not everybody:
        statement = statement.where(Job.owner_id == bindparam("owner_id"))
    order = (Key("created_at", Job.created_at, descending=True), Key("job_id", Job.job_id))
    return Listing(JobView, statement, order)


def _error_fields(error: ExplorerError | None) -> dict[str, Any]:
    if error is None:
        return {"error_code": None, "error_message": None}
    return {"error_code": error.code, "error_message": error.message[:_ERROR_LENGTH]}
