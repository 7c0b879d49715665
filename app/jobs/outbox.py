"""The outbox: a job row is written in the transaction of its cause and sent after that commits.

Should the sending fail, or the stream lose the message, the reconciler finds the row and sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import case, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from app.jobs.contracts import Contract
from app.observability import tracing
from app.observability.logging import bound_fields
from app.storage.postgres.session import after_commit
from app.storage.postgres.tables.jobs import Job

_INSERTS_PER_STATEMENT = 500
_QUEUES = "queues_with_held_jobs"  # of the transaction at hand


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message needs to point at a job."""

    job_id: UUID
    kind: str
    queue: str
    publication: int = 0
    delay_seconds: float = 0.0
    retries: int = 0  # failed attempts that the message of a job sent again must go on counting from
    trace: Mapping[str, str] = field(default_factory=dict)  # what caused the job, whoever sends it


class Sender(Protocol):
    """Puts jobs on the stream."""

    def send(self, envelopes: Iterable[Envelope]) -> None:
        """Best effort: what is not sent now is sent by the reconciler; never raises for that."""
        ...

    def admit(self, queue: str) -> None:
        """Send held jobs of a queue while there is room; best effort likewise."""
        ...


class Outbox:
    """Records jobs; one per process."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def record(
        self,
        session: Session,
        contract: Contract,
        *,
        owner_id: str | None,
        delay_seconds: float = 0.0,
        planned_by: UUID | None = None,
    ) -> UUID:
        """Write one job; see `record_many`."""
        (job_id,) = self.record_many(
            session, [contract], owner_id=owner_id, delay_seconds=delay_seconds, planned_by=planned_by
        )
        return job_id

    def record_many(
        self,
        session: Session,
        contracts: Iterable[Contract],
        *,
        owner_id: str | None,
        delay_seconds: float = 0.0,
        planned_by: UUID | None = None,
    ) -> list[UUID]:
        """Write the jobs in the caller's transaction; they are sent once it has committed.

        Where the same work is active already no second job is made: one that still waits will see
        the caller's changes anyway, one that runs is marked to run once more. The ids come back in
        the order of `contracts`. Workers see a job after `delay_seconds` at the earliest, held ones apart.
        `planned_by` names the plan whose run they belong to, also where they are active already.
        """
        rows = [_row(contract, owner_id, planned_by) for contract in contracts]
        # In one order everywhere: transactions that ask for the same jobs must not wait for each other.
        distinct = sorted({_key(row): row for row in rows}.items())
        ids: dict[tuple[str, str], UUID] = {}
        fresh: list[Envelope] = []
        for start in range(0, len(distinct), _INSERTS_PER_STATEMENT):
            part = dict(distinct[start : start + _INSERTS_PER_STATEMENT])
            for job_id, kind, key, queue in session.execute(_upsert(list(part.values()))):
                ids[kind, key] = job_id
                if part[kind, key]["held"]:
                    self.admit_after(session, queue)
                elif job_id == part[kind, key]["job_id"]:
                    trace = part[kind, key]["trace"]
                    fresh.append(Envelope(job_id, kind, queue, delay_seconds=delay_seconds, trace=trace))
        if fresh:
            after_commit(session, lambda: self._sender.send(fresh))
        return [ids[_key(row)] for row in rows]

    def send_after(self, session: Session, envelope: Envelope) -> None:
        """Send a job's next message once the transaction, which wrote its publication, has committed."""
        after_commit(session, lambda: self._sender.send([envelope]))

    def admit_after(self, session: Session, queue: str) -> None:
        """Once the transaction has committed, let held jobs of the queue go while there is room."""
        queues: set[str] = session.info.setdefault(_QUEUES, set())
        if queue not in queues:
            queues.add(queue)
            after_commit(session, lambda: self._sender.admit(queue))


def cause_of_now() -> dict[str, str]:
    """The present trace, and the request that all of this is for: a worker's log lines name it, too."""
    request_id = bound_fields().get("request_id")
    return tracing.inject() | ({"request_id": str(request_id)} if request_id else {})


def _row(contract: Contract, owner_id: str | None, planned_by: UUID | None) -> dict[str, Any]:
    return {
        "job_id": uuid4(),
        "owner_id": owner_id,
        "kind": contract.kind,
        "unique_key": contract.unique_key,
        "queue": contract.queue,
        "arguments": contract.arguments(),
        "scope_kind": contract.scope_kind,
        "scope_id": contract.scope_id,
        "held": contract.held and owner_id is not None,
        "planned_by": planned_by,
        "trace": cause_of_now(),
    }


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["kind"], row["unique_key"]


def _upsert(rows: list[dict[str, Any]]) -> ReturningInsert[tuple[UUID, str, str, str]]:
    # A single one as such: a statement with a list of values is compiled anew each time.
    statement = insert(Job).values(rows if len(rows) > 1 else rows[0])
    return statement.on_conflict_do_update(
        index_elements=["kind", "unique_key"],
        index_where=Job.state.in_(("pending", "running", "retrying")),
        # A waiting job has not looked yet, so it will see what the caller wrote. No moment changes: a job
        # that is asked for all the time must still look old to the reconciler when it was never published.
        set_={
            "rerun": case((Job.state == "running", True), else_=Job.rerun),
            "planned_by": func.coalesce(statement.excluded.planned_by, Job.planned_by),
        },
    ).returning(Job.job_id, Job.kind, Job.unique_key, Job.queue)
