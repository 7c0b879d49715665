"""Files of a collection: upload, list, download, delete, and what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from sqlalchemy import ColumnElement, Integer, Row, Select, Text, bindparam, select
from sqlalchemy.orm import Session

from app.errors import ExplorerError, NotFoundError, UnavailableError
from app.jobs.contracts import PlanCollectionTransform
from app.jobs.outbox import Outbox
from app.observability.security_metrics import uploads_refused
from app.security.principal import Principal
from app.services.described import check_search
from app.services.paging import Page, after_token, check_window, continuation_token
from app.services.processed_files import LAST_FIRST, FailedFile, failed
from app.services.removal import Removal
from app.services.uploads import Received, Upload, received
from app.storage.postgres.queries.file_states import STATES, file_states
from app.storage.postgres.queries.keyset import keyed_page
from app.storage.postgres.queries.listing import PATTERN, mentioning, pattern
from app.storage.postgres.queries.owned import expect_readable, owned, readable
from app.storage.postgres.queries.pages import counting
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Collection, CollectionTransform, File, Item
from app.storage.s3 import BlobStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileView:
    """A file and what became of it; `key` is what the path of its download takes.

    `state` is stored (no transform reads it), pending, processing, succeeded or failed.
    """

    file_id: int
    key: str
    name: str
    size: int
    content_type: str
    last_modified: datetime
    version: int
    state: str
    error_code: str | None
    error: str | None
    chunk_count: int
    item_id: int | None


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a collection's files by name; `total_count` comes with the first page only."""

    files: tuple[FileView, ...]
    page_size: int
    has_more: bool
    continuation_token: str | None
    total_count: int | None


@dataclass(frozen=True, slots=True)
class Completed:
    """An upload that was stored; `unchanged` says that these very bytes were there already."""

    name: str
    key: str
    file_id: int
    version: int
    size: int
    content_type: str
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """An upload that was refused, and why."""

    name: str
    error: str
    code: str


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """What became of each file of one upload."""

    completed: tuple[Completed, ...]
    failed: tuple[Failed, ...]


@dataclass(frozen=True, slots=True)
class Download:
    """A stored file: `open` reads it, or a part of its bytes; close what it returns."""

    name: str
    media_type: str
    size_bytes: int
    content_hash: str
    open: Callable[[range | None], BinaryIO]


@dataclass(frozen=True, slots=True)
class Files:
    """Verbs on files. `detect` decides the media type from a file's content and name."""

    database: Database
    outbox: Outbox
    blobs: BlobStore
    detect: Callable[[Path, str], str]
    max_file_size_bytes: int
    scratch_dir: Path | None = None

    def upload(self, principal: Principal, collection_id: int, uploads: Iterable[Upload]) -> UploadOutcome:
        """Store each file on its own: one that is refused does not touch the others.

        Raises NotFoundError for the collection and UnavailableError when storage is away.
        """
        with self.database.transaction() as session:
            owned(session, Collection, collection_id, principal.owner_id)
        completed: list[Completed] = []
        refused: list[Failed] = []
        for upload in uploads:
            try:
                completed.append(self._store(principal, collection_id, upload))
            except UnavailableError:
                raise
            except ExplorerError as error:
                uploads_refused(error.code)
                refused.append(Failed(upload.name[:255], error.message, error.code))
        return UploadOutcome(tuple(completed), tuple(refused))

    def list(
        self,
        principal: Principal,
        collection_id: int,
        *,
        page_size: int = 10,
        token: str | None = None,
        search: str | None = None,
    ) -> FilePage:
        """The files by name, `page_size` at a time; raises NotFoundError, InvalidInputError."""
        check_window(page_size)
        last, term = after_token(token), check_search(search)
        statement = _listing(searched=bool(term), follows=last is not None)
        values = {
            "collection_id": collection_id,
            PATTERN: pattern(term or ""),
            "last": last,
            "most": page_size + 1,
        }
        with self.database.reading() as connection:
            expect_readable(connection, Collection, collection_id, principal.owner_id)
            found = connection.execute(statement, values).all()
            has_more = len(found) > page_size
            total = None if last is not None else len(found)
            if has_more and total is not None:
                total = connection.scalar(_counting(searched=bool(term)), values)
        views = tuple([_file(row) for row in found[:page_size]])
        following = continuation_token(views[-1].name) if has_more else None
        return FilePage(views, page_size, has_more, following, total)

    def get(self, principal: Principal, collection_id: int, file_id: int) -> FileView:
        """One file of the collection; raises NotFoundError."""
        with self.database.reading() as connection:
            expect_readable(connection, Collection, collection_id, principal.owner_id)
            row = connection.execute(_ONE, {"file_id": file_id}).one_or_none()
        if row is None or row.collection_id != collection_id:
            raise NotFoundError(f"no file {file_id} in collection {collection_id}")
        return _file(row)

    def open(self, principal: Principal, collection_id: int, file_id: int) -> Download:
        """The stored bytes, to be opened; raises NotFoundError. Opening raises UnavailableError, too."""
        with self.database.transaction() as session:
            row = _readable_file(session, principal, collection_id, file_id)
        opener = partial(self.blobs.open, row.object_key)
        return Download(row.name, row.media_type, row.size_bytes, row.content_hash, opener)

    def delete(self, principal: Principal, file_id: int, *, collection_id: int | None = None) -> None:
        """Delete a file with what was made from it; raises NotFoundError, also for another collection's."""
        with self.database.transaction() as session:
            row = owned(session, File, file_id, principal.owner_id, lock=True)
            if collection_id not in {None, row.collection_id}:
                raise NotFoundError(f"no file {file_id} in collection {collection_id}")
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.objects([row.object_key])
            datasets = session.scalars(
                select(Item.dataset_id).where(Item.file_id == file_id).distinct()
            ).all()
            session.delete(row)
            session.flush()
            removal.replan(datasets)

    def failed_files(
        self,
        principal: Principal,
        collection_id: int,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[FailedFile]:
        """What could not be extracted as it is now and why, newest first; raises NotFoundError."""
        check_window(limit, offset)
        with self.database.transaction() as session:
            owned(session, Collection, collection_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, failed(collection_id), LAST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(FailedFile(*row) for row in rows), total, limit, offset, following)

    def _store(self, principal: Principal, collection_id: int, upload: Upload) -> Completed:
        with received(upload, most_bytes=self.max_file_size_bytes, scratch_dir=self.scratch_dir) as file:
            media_type = self.detect(file.path, file.name)
            if (same := self._same(collection_id, file)) is not None:
                return same
            key = f"files/{uuid4()}"
            self.blobs.put_file(key, file.path, media_type=media_type, sha256=file.content_hash)
        try:
            return self._record(principal, collection_id, file, media_type, key)
        except BaseException:
            self._discard(principal, key)
            raise

    def _same(self, collection_id: int, file: Received) -> Completed | None:
        with self.database.transaction() as session:
            row = session.scalars(_by_name(collection_id, file.name)).one_or_none()
        return _completed(row, unchanged=True) if row and row.content_hash == file.content_hash else None

    def _record(
        self, principal: Principal, collection_id: int, file: Received, media_type: str, key: str
    ) -> Completed:
        with self.database.transaction() as session:
            # The lock makes uploads of one name one after the other, and keeps the collection alive.
            owned(session, Collection, collection_id, principal.owner_id, lock=True)
            # Before the file's row is touched: a plan, too, locks its job first and then the files.
            self._plan(session, principal, collection_id)
            row = session.scalars(_by_name(collection_id, file.name)).one_or_none()
            if row is None:
                row = File(
                    owner_id=principal.owner_id, collection_id=collection_id, name=file.name, version=1
                )
                session.add(row)
            else:
                Removal(session, self.outbox, principal.owner_id).objects([row.object_key])
                row.version += 1
            row.media_type, row.object_key = media_type, key
            row.size_bytes, row.content_hash = file.size_bytes, file.content_hash
            session.flush()
            return _completed(row, unchanged=False)

    def _plan(self, session: Session, principal: Principal, collection_id: int) -> None:
        # Disabled ones, too: one that is enabled just now plans before this file is committed.
        ids = session.scalars(
            select(CollectionTransform.collection_transform_id).where(
                CollectionTransform.collection_id == collection_id,
                CollectionTransform.owner_id == principal.owner_id,
            )
        ).all()
        plans = [PlanCollectionTransform(key) for key in ids]
        self.outbox.record_many(session, plans, owner_id=principal.owner_id)

    def _discard(self, principal: Principal, key: str) -> None:
        """The object goes unless a row names it: a commit may have happened although no answer came."""
        try:
            with self.database.transaction() as session:
                Removal(session, self.outbox, principal.owner_id).objects([key])
        except ExplorerError:
            _log.warning("the object of a failed upload stays behind", extra={"object_key": key})


def _readable_file(session: Session, principal: Principal, collection_id: int, file_id: int) -> File:
    readable(session, Collection, collection_id, principal.owner_id)
    row = session.get(File, file_id)
    if row is None or row.collection_id != collection_id:
        raise NotFoundError(f"no file {file_id} in collection {collection_id}")
    return row


def _by_name(collection_id: int, name: str) -> Select[tuple[File]]:
    return select(File).where(File.collection_id == collection_id, File.name == name)


def _completed(row: File, *, unchanged: bool) -> Completed:
    return Completed(
        name=row.name,
        key=str(row.file_id),
        file_id=row.file_id,
        version=row.version,
        size=row.size_bytes,
        content_type=row.media_type,
        unchanged=unchanged,
    )


def _names(*, searched: bool, follows: bool = False) -> Select[tuple[int]]:
    """Ids of a collection's files by name; after the name `last` where it follows another page."""
    found = select(File.file_id).where(File.collection_id == bindparam("collection_id"))
    if searched:
        found = found.where(mentioning(File.name))
    if follows:
        found = found.where(File.name > bindparam("last", type_=Text))
    return found.order_by(File.name)


def _with_states(which: ColumnElement[bool]) -> Select[Any]:
    states = file_states(which).subquery()
    columns = (
        File.collection_id,
        File.file_id,
        File.name,
        File.size_bytes,
        File.media_type,
        File.updated_at,
        File.version,
        states.c.rank,
        states.c.error_code,
        states.c.error_message,
        states.c.chunk_count,
        states.c.item_id,
    )
    return select(*columns).join(states, states.c.file_id == File.file_id).order_by(File.name)


_ONE = _with_states(File.file_id == bindparam("file_id"))


@cache
def _listing(*, searched: bool, follows: bool) -> Select[Any]:
    window = _names(searched=searched, follows=follows).limit(bindparam("most", type_=Integer))
    return _with_states(File.file_id.in_(window.correlate(None)))


@cache
def _counting(*, searched: bool) -> Select[tuple[int]]:
    return counting(_names(searched=searched))


def _file(row: Row[Any]) -> FileView:
    _, file_id, name, size, media_type, changed_at, version, rank, *of_states = row
    return FileView(
        file_id, str(file_id), name, size, media_type, changed_at, version, STATES[rank], *of_states
    )
