"""Stored objects beside the rows that name them: which object has no row, and which row no object.

A bucket is listed in the order of keys, rows are read in the same order, and both go by side by side, a page
at a time. What seems to be missing on either side is looked up once more before anything is made of it: the
two were not read at one moment.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Select, Update, false, func, select, update

from app.errors import ObjectMissingError
from app.storage.postgres.session import Database
from app.storage.postgres.tables import File, FileExtraction, Visualization
from app.storage.s3 import BlobInfo, BlobStore

_Rows = Callable[[str, datetime], Select[Any]]  # a page after a key, unchanged since then

_MOST = 10_000  # of each finding in one pass; the next one finds the rest
_PAGE = 1000
FILE_LOST = "the stored file is gone from the object store: upload it again"
_MAP_LOST = "the points of this map are gone from the object store: build the map again"


@dataclass(frozen=True, slots=True)
class Named:
    """A row that names an object; `is_lost` where an earlier pass has marked it so."""

    key: str
    id: int
    is_lost: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found: keys of objects without a row, rows without their object, maps whose object is back."""

    unowned: list[str] = field(default_factory=list)
    files: list[Named] = field(default_factory=list)
    maps: list[Named] = field(default_factory=list)
    maps_back: list[Named] = field(default_factory=list)


class StoredObjects:
    """Compares bucket and rows.

    What is younger than `min_age` is left alone, on both sides: an upload stores its object before its row.
    """

    def __init__(self, database: Database, blobs: BlobStore, *, min_age: timedelta) -> None:
        self._database = database
        self._blobs = blobs
        self._min_age = min_age

    def compare(self) -> Compared:
        """One pass over everything, which changes nothing. Raises UnavailableError."""
        before = self._database.now() - self._min_age
        found = Compared()
        for prefix, rows, lost in (("files/", _files, found.files), ("visualizations/", _maps, found.maps)):
            differing = self._side_by_side(prefix, self._rows(rows, before), before)
            while page := list(islice(differing, _PAGE)):
                self._sort(page, found, lost)
        return found

    def mark(self, found: Compared) -> None:
        """Write into the rows what was found, where they still name these objects.

        A file that was read stays as it is: only what waits to be read fails. Raises UnavailableError.
        """
        # One row per transaction: plans lock many of these rows in an order of their own.
        for file in found.files:
            self._execute(_fail_extractions(file))
        for lost in found.maps:
            self._execute(_map(lost, "completed").values(status="failed", error_message=_MAP_LOST))
        for back in found.maps_back:
            self._execute(_map(back, "failed").values(status="completed", error_message=None))

    def _side_by_side(
        self, prefix: str, rows: Iterator[Named], before: datetime
    ) -> Iterator[BlobInfo | Named]:
        """Old objects without a row, rows without an object, rows marked as such whose object is there."""
        both: Iterator[BlobInfo | Named] = heapq.merge(self._blobs.list(prefix), rows, key=_key)
        for _, same_key in groupby(both, key=_key):
            match list(same_key):
                case [BlobInfo() as blob] if blob.modified_at < before:
                    yield blob
                case [Named(is_lost=False) as row] | [_, Named(is_lost=True) as row]:
                    yield row

    def _sort(self, page: Sequence[BlobInfo | Named], found: Compared, lost: list[Named]) -> None:
        rows = [each for each in page if isinstance(each, Named)]
        unowned = self._unowned([each.key for each in page if isinstance(each, BlobInfo)])
        gone = (row for row in rows if not row.is_lost and not self._blobs.exists(row.key))
        found.unowned.extend(islice(unowned, _MOST - len(found.unowned)))
        lost.extend(islice(gone, _MOST - len(lost)))
        found.maps_back.extend(row for row in rows if row.is_lost)

    def _rows(self, rows: _Rows, before: datetime) -> Iterator[Named]:
        last = ""
        while True:
            with self._database.transaction() as session:
                page = [Named(*row) for row in session.execute(rows(last, before))]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].key

    def _unowned(self, keys: Sequence[str]) -> Iterator[str]:
        with self._database.transaction() as session:
            files = select(File.object_key).where(File.object_key.in_(keys))
            maps = select(Visualization.points_key).where(Visualization.points_key.in_(keys))
            named = {*session.scalars(files), *session.scalars(maps)}
        return (key for key in keys if key not in named)

    def _execute(self, statement: Update) -> None:
        with self._database.transaction() as session:
            session.execute(statement)


def _key(each: BlobInfo | Named) -> str:
    return each.key


def _files(after: str, before: datetime) -> Select[Any]:
    return (
        select(File.object_key, File.file_id, false())
        .where(File.object_key > after, File.updated_at < before)
        .order_by(File.object_key)
        .limit(_PAGE)
    )


def _maps(after: str, before: datetime) -> Select[Any]:
    bytewise = Visualization.points_key.collate("C")  # as a bucket is listed
    return (
        select(Visualization.points_key, Visualization.visualization_id, Visualization.status == "failed")
        .where(bytewise > after, Visualization.updated_at < before)
        .order_by(bytewise)
        .limit(_PAGE)
    )


def _fail_extractions(lost: Named) -> Update:
    """What waits for this version of the file."""
    return (
        update(FileExtraction)
        .where(
            FileExtraction.file_id == File.file_id,
            FileExtraction.file_version == File.version,
            FileExtraction.state == "pending",
            File.file_id == lost.id,
            File.object_key == lost.key,
        )
        .values(
            state="failed",
            error_code=ObjectMissingError.code,
            error_message=FILE_LOST,
            processed_at=func.now(),
        )
    )


def _map(row: Named, status: str) -> Update:
    return update(Visualization).where(
        Visualization.visualization_id == row.id,
        Visualization.points_key == row.key,
        Visualization.status == status,
    )
