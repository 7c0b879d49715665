"""Admission: how many jobs wait on the stream, and whose is next.

Kinds of work that come by the thousand (`Contract.held`) are recorded held: the row waits in Postgres, no
message stands for it. A queue has few jobs waiting on the stream: `READY_AHEAD`, or one for every four that
run where that is more. Each one that a worker takes lets the next go. An owner of whose work none is there
yet is let go beyond that, one job of each. So a queue is never flooded, whatever is planned, and a newcomer
waits for the few that are on the stream, and not for all that was planned before. A pile of which many wait
for another try lets no more go: they would meet the same (docs/adr/0024).
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.errors import ProviderPausedError
from app.jobs.contracts import CONTRACTS
from app.jobs.outbox import Envelope
from app.storage.postgres.session import Database, need_not_last
from app.storage.postgres.tables.jobs import Job

READY_AHEAD = 2  # free workers find work while the next is being sent; more only makes newcomers wait
_RUNNING_PER_READY = 4
MOST_PUT_OFF = 10  # jobs of a pile that wait for a provider
MOST_RETRYING = 50  # jobs of a pile that wait for another try, whatever for
_SENDING = timedelta(seconds=10)  # a row that is not noted as sent by then was not: the reconciler sends it

_LOCK_CLASS = 720_165  # first half of the advisory lock's key; the queue's hash is the other

# Max-min fairness, between owners and then between the piles of one (a transform's work is a pile): the next
# job is the oldest of the pile with the fewest at work, of the owner with the fewest at work. Among equals,
# of whoever was let go the longest ago, else the older crowd had two turns to one. The recursion hops from
# pile to pile in the index, so its cost grows with piles and not with held jobs.
_ADMIT = text("""
    WITH RECURSIVE room AS (
        SELECT greatest(:ahead, count(*) FILTER (WHERE state = 'running') / :running_per_ready)
               - count(*) FILTER (WHERE state = 'pending' AND (
                     published_at IS NOT NULL OR updated_at > now() - :sending)) AS number
        FROM jobs WHERE queue = :queue AND state IN ('pending', 'running') AND NOT held
    ), held_piles AS (
        (SELECT owner_id, scope_kind, scope_id FROM jobs WHERE held AND state = 'pending' AND queue = :queue
         ORDER BY owner_id, scope_kind, scope_id LIMIT 1)
        UNION ALL
        SELECT next.* FROM held_piles CROSS JOIN LATERAL (
            SELECT owner_id, scope_kind, scope_id FROM jobs
            WHERE held AND state = 'pending' AND queue = :queue
            AND (owner_id, scope_kind, scope_id)
                > (held_piles.owner_id, held_piles.scope_kind, held_piles.scope_id)
            ORDER BY owner_id, scope_kind, scope_id LIMIT 1) AS next
    ), piles AS (
        SELECT * FROM held_piles EXCEPT
        SELECT owner_id, scope_kind, scope_id FROM jobs WHERE queue = :queue AND state = 'retrying'
        GROUP BY owner_id, scope_kind, scope_id
        HAVING count(*) >= :most_retrying
            OR count(*) FILTER (WHERE error_code = :put_off) >= :most_put_off
    ), at_work AS (
        SELECT owner_id, scope_kind, scope_id, grouping(scope_id) AS of_owner, count(*) AS number,
               max(updated_at) FILTER (WHERE state = 'pending') AS latest
        FROM jobs
        WHERE queue = :queue AND state IN ('pending', 'running') AND NOT held
        GROUP BY GROUPING SETS ((owner_id), (owner_id, scope_kind, scope_id))
    ), newcomers AS (
        SELECT count(*) AS number FROM (SELECT DISTINCT owner_id FROM piles) AS theirs
        WHERE NOT EXISTS (
            SELECT FROM jobs WHERE jobs.owner_id = theirs.owner_id AND queue = :queue
            AND state IN ('pending', 'running') AND NOT held AND kind = ANY(:kinds))
    ), places AS (
        SELECT greatest(room.number, newcomers.number) AS number FROM room, newcomers
    ), within_piles AS (
        SELECT owner_id, first.job_id, first.created_at, of_pile.latest,
               coalesce(of_pile.number, 0) + row_number() OVER (
                   PARTITION BY owner_id, scope_kind, scope_id ORDER BY first.created_at, first.job_id
               ) AS share
        FROM piles CROSS JOIN LATERAL (
            SELECT job_id, created_at FROM jobs
            WHERE held AND state = 'pending' AND queue = :queue AND owner_id = piles.owner_id
            AND scope_kind = piles.scope_kind AND scope_id = piles.scope_id
            ORDER BY created_at, job_id LIMIT (SELECT number FROM places)) AS first
        LEFT JOIN at_work AS of_pile USING (owner_id, scope_kind, scope_id)
    ), candidates AS (
        SELECT job_id, created_at, of_owner.latest, coalesce(of_owner.number, 0) + row_number() OVER (
                   PARTITION BY owner_id ORDER BY share, within_piles.latest NULLS FIRST, created_at, job_id
               ) AS share
        FROM within_piles
        LEFT JOIN (SELECT * FROM at_work WHERE of_owner = 1) AS of_owner USING (owner_id)
    ), chosen AS (
        SELECT job_id FROM jobs WHERE job_id IN (
            SELECT job_id FROM candidates ORDER BY share, latest NULLS FIRST, created_at
            LIMIT (SELECT number FROM places))
        FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET held = false, updated_at = now() FROM chosen WHERE jobs.job_id = chosen.job_id
    RETURNING jobs.job_id, jobs.kind, jobs.queue, jobs.publication, jobs.trace
""")


_PARAMETERS = {
    "ahead": READY_AHEAD,
    "running_per_ready": _RUNNING_PER_READY,
    "sending": _SENDING,
    "most_put_off": MOST_PUT_OFF,
    "most_retrying": MOST_RETRYING,
    "put_off": ProviderPausedError.code,
    "kinds": [kind for kind, contract in CONTRACTS.items() if contract.held],
}


def admit(database: Database, queue: str) -> list[Envelope]:
    """Let held jobs of a queue go while there is room; whoever calls sends the envelopes.

    In a transaction of its own, one per queue at a time. Raises UnavailableError.
    """
    with database.transaction() as session:
        if not _any_held(session, queue):
            return []
        need_not_last(session)  # a message for a job that is held again is as good as any
        session.execute(select(func.pg_advisory_xact_lock(_LOCK_CLASS, func.hashtext(queue))))
        rows = session.execute(_ADMIT, _PARAMETERS | {"queue": queue})
        return [Envelope(row.job_id, row.kind, row.queue, row.publication, trace=row.trace) for row in rows]


def _any_held(session: Session, queue: str) -> bool:
    held = select(Job.job_id).where(Job.held, Job.state == "pending", Job.queue == queue).limit(1)
    return session.scalar(held) is not None
