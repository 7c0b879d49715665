"""Sweeps: the reconciler looks after jobs, this after what lost its job or its row.

Rows that wait for a job that is over are looked for at every pass. What the other servers hold (stored
objects, vector indexes, vectors, dead letters) is compared with the rows once an hour in the fleet, outside
of any transaction: the row of the last sweep in `reconciliations` is the clock and the claim. Nothing is
deleted here: that is recorded as jobs, which check once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, text, update
from sqlalchemy.orm import Session

from app.errors import UnavailableError
from app.jobs.contracts import Contract, DeleteObjects, DropVectorIndex
from app.jobs.letters import LettersAndRows
from app.jobs.lost_work import plan_lost_work
from app.jobs.outbox import Outbox
from app.jobs.reconciliations import write_down
from app.jobs.stored_objects import StoredObjects
from app.jobs.vector_counts import Differing, VectorCounts
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbeddedDataset, Reconciliation
from app.storage.qdrant import VectorStore
from app.storage.s3 import BlobStore

logger = logging.getLogger(__name__)

_ADVISORY_LOCK = 7_201_650_045
_INDEX_PREFIX = "embedded-dataset-"
_INTERVAL = timedelta(hours=1)
_THOROUGH_AFTER = timedelta(hours=24)
_MOST_INDEXES = 1000
_KEYS_PER_JOB = 200
_NAMED = 100  # of the letters without a job, the newest
_UNOWNED = "unowned_indexes"  # marks the row of a sweep
_THOROUGH = "by_ids"  # marks the row of a thorough one


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass did something about, or would: ids of transforms, files and maps, keys of objects, ..."""

    collection_transforms: Sequence[int] = ()
    dataset_transforms: Sequence[int] = ()
    objects: Sequence[str] = ()  # that no row names
    indexes: Sequence[str] = ()  # that no row names
    files: Sequence[int] = ()  # whose object is gone
    maps: Sequence[int] = ()  # whose points are gone
    maps_back: Sequence[int] = ()  # whose points were gone and are there again
    vectors: Sequence[Differing] = ()
    letters: Sequence[int] = ()  # whose jobs were active all the same
    letters_without_job: Sequence[int] = ()
    dead_without_letter: Sequence[UUID] = ()
    letters_indexed: int = 0  # whose rows in the index said something else
    unowned_indexes: Sequence[str] = field(default=(), compare=False)  # of which the next sweep may drop some
    by_ids: bool = field(default=False, compare=False)  # so the vectors were compared, not only by counts

    def counts(self) -> dict[str, int]:
        """How many by what was found; what is planned for rows that wait is written down on its own."""
        return {
            "objects": len(self.objects),
            "indexes": len(self.indexes),
            "files_without_object": len(self.files),
            "maps_without_points": len(self.maps),
            "maps_with_points_again": len(self.maps_back),
            "items_without_vectors": sum(each.incomplete for each in self.vectors),
            "items_unknown_to_rows": sum(each.unknown for each in self.vectors),
            "letters_of_active_jobs": len(self.letters),
            "letters_without_job": len(self.letters_without_job),
            "dead_jobs_without_letter": len(self.dead_without_letter),
            "letters_wrong_in_index": self.letters_indexed,
        }


@dataclass(frozen=True, slots=True)
class _Claim:
    reconciliation_id: int | None  # None: a dry run
    seen_before: frozenset[str]  # the indexes that the last sweep found unowned
    thorough: bool  # vectors are compared by their ids

    @property
    def dry_run(self) -> bool:
        return self.reconciliation_id is None


class Sweeps:
    """Passes over what has no job, no row, or no thing that its row stands for.

    An object or row younger than `min_age` is left alone: an upload stores the one before the other.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        blobs: BlobStore,
        vectors: VectorStore,
        letters: LettersAndRows | None = None,
        *,
        repair_index: Callable[[bool], int] | None = None,
        min_age: timedelta = timedelta(hours=1),
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._vectors = vectors
        self._objects = StoredObjects(database, blobs, min_age=min_age)
        self._counts = VectorCounts(database, outbox, vectors)
        self._letters = letters
        self._repair_index = repair_index

    def run(self, *, dry_run: bool = False) -> Swept:
        """One pass; a dry one looks at everything and changes nothing. Raises UnavailableError."""
        with self._database.transaction() as session:
            lost = plan_lost_work(session, self._outbox, dry_run=dry_run) if _alone(session) else ((), ())
        swept = Swept(*lost)
        with self._database.transaction() as session:
            claim = _look_back(session) if dry_run else _claim(session)
        return self._between_sweeps(swept) if claim is None else self._sweep(swept, claim)

    def _between_sweeps(self, swept: Swept) -> Swept:
        """Look for indexes that somebody dropped: until they are there again no search finds anything."""
        differing = self._counts.compare_missing(self._vectors.names(_INDEX_PREFIX))
        if not differing:
            return swept
        swept = replace(swept, vectors=differing)
        logger.warning("vector indexes are gone, what they held is planned again: %s", differing)
        with self._database.transaction() as session:
            write_down(session, swept.counts())
        return swept

    def _sweep(self, swept: Swept, claim: _Claim) -> Swept:
        swept = replace(swept, unowned_indexes=sorted(claim.seen_before))
        away: UnavailableError | None = None
        looks = (self._look_at_objects, self._look_at_indexes, self._look_at_vectors, self._look_at_letters)
        for look in looks:
            try:
                swept = look(swept, claim)
            except UnavailableError as error:
                away = error  # the other servers are looked at all the same: the next sweep is an hour away
        if claim.reconciliation_id is not None:
            self._record(claim.reconciliation_id, swept)
        if away is not None:
            raise away
        return swept

    def _look_at_objects(self, swept: Swept, claim: _Claim) -> Swept:
        found = self._objects.compare()
        if not claim.dry_run:
            self._objects.mark(found)
        return replace(
            swept,
            objects=found.unowned,
            files=[row.id for row in found.files],
            maps=[row.id for row in found.maps],
            maps_back=[row.id for row in found.maps_back],
        )

    def _look_at_indexes(self, swept: Swept, claim: _Claim) -> Swept:
        unowned = self._unowned_indexes()
        # Twice, an hour apart: nothing is lost by patience, whatever made an index only a moment ago.
        twice = [name for name in unowned if name in claim.seen_before]
        return replace(swept, indexes=twice, unowned_indexes=unowned)

    def _look_at_vectors(self, swept: Swept, claim: _Claim) -> Swept:
        differing = self._counts.compare(dry_run=claim.dry_run, thorough=claim.thorough)
        return replace(swept, vectors=differing, by_ids=claim.thorough)

    def _look_at_letters(self, swept: Swept, claim: _Claim) -> Swept:
        if self._letters is None:
            return swept
        found = self._letters.compare(dry_run=claim.dry_run)
        return replace(
            swept,
            letters=found.of_active,
            letters_without_job=found.of_gone,
            dead_without_letter=found.jobs_without,
            letters_indexed=self._repair_index(claim.dry_run) if self._repair_index else 0,
        )

    def _unowned_indexes(self) -> list[str]:
        # In this order: the row of an index is there before the index is made.
        names = self._vectors.names(_INDEX_PREFIX)
        with self._database.transaction() as session:
            named = select(EmbeddedDataset.collection_name).where(EmbeddedDataset.collection_name.in_(names))
            owned = set(session.scalars(named))
        return [name for name in names if name not in owned][:_MOST_INDEXES]

    def _record(self, reconciliation_id: int, swept: Swept) -> None:
        starts = range(0, len(swept.objects), _KEYS_PER_JOB)
        jobs: list[Contract] = [
            *(DropVectorIndex(name) for name in swept.indexes),
            *(DeleteObjects(tuple(swept.objects[start : start + _KEYS_PER_JOB])) for start in starts),
        ]
        counts = swept.counts()
        found: Mapping[str, Any] = {
            **counts,
            _UNOWNED: list(swept.unowned_indexes),
            _THOROUGH: swept.by_ids,
            "unowned_letters": list(swept.letters_without_job[:_NAMED]),
        }
        with self._database.transaction() as session:
            self._outbox.record_many(session, jobs, owner_id=None)
            session.execute(
                update(Reconciliation)
                .where(Reconciliation.reconciliation_id == reconciliation_id)
                .values(finished_at=func.now(), found=found)
            )
        if any(counts.values()):
            logger.warning("rows and what they stand for differed: %s", counts)


def _alone(session: Session) -> bool:
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}))


def _claim(session: Session) -> _Claim | None:
    """The sweep of this hour, unless somebody has it."""
    recent = exists().where(_is_sweep(), Reconciliation.started_at > func.now() - _INTERVAL)
    if not _alone(session) or session.scalar(select(recent)):
        return None
    before = _look_back(session)
    row = Reconciliation(started_at=func.now(), found={_UNOWNED: []})
    session.add(row)
    session.flush()
    lately = exists().where(
        Reconciliation.found.contains({_THOROUGH: True}),
        Reconciliation.started_at > func.now() - _THOROUGH_AFTER,
    )
    return _Claim(row.reconciliation_id, before.seen_before, thorough=not session.scalar(select(lately)))


def _look_back(session: Session) -> _Claim:
    last = select(Reconciliation.found).where(_is_sweep()).order_by(Reconciliation.started_at.desc()).limit(1)
    found: dict[str, Any] = session.scalar(last) or {}
    return _Claim(None, frozenset(found.get(_UNOWNED, ())), thorough=True)


def _is_sweep() -> ColumnElement[bool]:
    return Reconciliation.found.op("?", is_comparison=True)(_UNOWNED)
