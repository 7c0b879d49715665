"""Runs of the collections pool: one file becomes one item with its chunks; stored objects are swept."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.errors import NotFoundError, ObjectMissingError, UnreadableFileError
from app.events.ports import StatusPublisher
from app.ids import chunk_id, content_hash
from app.jobs.contracts import ExtractFile
from app.jobs.outbox import Outbox
from app.jobs.stored_objects import FILE_LOST
from app.observability import metrics
from app.pipeline.chunking.base import Chunk, Chunker
from app.pipeline.document import Document
from app.pipeline.extraction.base import SourceFile
from app.services.item_tags import hashed_tags, tags_of
from app.services.jobs import Jobs, Run
from app.services.removal import Removal
from app.services.status import Subject, tell
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChunkRow,
    CollectionTransform,
    File,
    FileExtraction,
    Item,
    Visualization,
)
from app.storage.s3 import BlobStore

_TITLE_LENGTH = 256
_ROWS_PER_INSERT = 1000
# Past the mapper where no object is wanted: these statements come with every file of a crowd.
_ITEMS, _CHUNKS, _EXTRACTIONS = (cast("Table", table.__table__) for table in (Item, ChunkRow, FileExtraction))

ReadDocument = Callable[[SourceFile, Mapping[str, Any]], Document]
BuildChunker = Callable[[str, Mapping[str, Any]], Chunker]


@dataclass(frozen=True, slots=True)
class _Work:
    """What the run needs to know, read once at its start."""

    transform_id: int
    config_hash: str
    job_config: Mapping[str, Any]
    collection_id: int
    dataset_id: int
    owner_id: str
    file: File
    run_id: UUID | None = None  # of the transform: the plan that made the job

    @property
    def subject(self) -> Subject:
        return Subject("collection", self.transform_id, self.collection_id, self.owner_id, self.run_id)


@dataclass(frozen=True, slots=True)
class ExtractionRuns:
    """Verbs of the extraction jobs.

    `read` and `build_chunker` take the transform's `job_config` parts, the latter after the owner.
    """

    database: Database
    outbox: Outbox
    jobs: Jobs
    status: StatusPublisher
    blobs: BlobStore
    read: ReadDocument
    build_chunker: BuildChunker
    scratch_dir: Path | None = None

    def extract_file(self, run: Run, contract: ExtractFile) -> None:
        """Extract and chunk one file and write its item; nothing is written for what was replaced or deleted.

        Raises UnreadableFileError, UnsupportedTypeError, ObjectMissingError (permanent) and UnavailableError;
        where chunking embeds, what BuildChunker and Embedder.embed raise.
        """
        started = time.monotonic()
        work = self._load(run, contract)
        if work is None:
            return
        try:
            with metrics.stage("extraction"):
                document = self._read(work)
        except NotFoundError as error:  # the object of a replaced or deleted file is swept at once
            with self.database.transaction() as session:
                self.jobs.fence(session, run)
                if not self._skip(session, run, contract):
                    raise ObjectMissingError(FILE_LOST) from error
            return
        chunker = self._chunker(run, work)
        if chunker is None:
            return
        with metrics.stage("chunking"):
            chunks = list(chunker.chunk(document))
        if not chunks:
            raise UnreadableFileError("the file holds no text")
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            if self._skip(session, run, contract):
                return
            item_id = _write_item(session, work, document, chunks)
            _write_outcome(session, work, item_id, len(chunks), round((time.monotonic() - started) * 1000))
            self.jobs.finish(session, run)
            # Last: files of a crowd ask for the same plan, and each waits for the commit of the one before.
            Removal(session, self.outbox, work.owner_id).replan([work.dataset_id])
        tell(
            self.status,
            work.subject,
            "success",
            job_id=run.job_id,
            file_id=work.file.file_id,
            chunks=len(chunks),
        )

    def delete_objects(self, run: Run, keys: tuple[str, ...]) -> None:
        """Delete stored objects whose rows are gone; keys that a row still names are kept."""
        with self.database.transaction() as session:
            kept = {
                *session.scalars(select(File.object_key).where(File.object_key.in_(keys))),
                *session.scalars(select(Visualization.points_key).where(Visualization.points_key.in_(keys))),
            }
        self.blobs.delete([key for key in keys if key not in kept])
        with self.database.transaction() as session:
            self.jobs.finish(session, run)

    def _load(self, run: Run, contract: ExtractFile) -> _Work | None:
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            if self._skip(session, run, contract, disabled=True):
                return None
            transform = session.get_one(CollectionTransform, contract.collection_transform_id)
            file = session.get_one(File, contract.file_id)
            session.execute(
                update(_EXTRACTIONS)
                .where(
                    _EXTRACTIONS.c.collection_transform_id == contract.collection_transform_id,
                    _EXTRACTIONS.c.file_id == contract.file_id,
                )
                .values(job_id=run.job_id)
            )
        return _Work(
            transform_id=transform.collection_transform_id,
            config_hash=transform.config_hash,
            job_config=transform.job_config,
            collection_id=transform.collection_id,
            dataset_id=transform.dataset_id,
            owner_id=transform.owner_id,
            file=file,
            run_id=run.planned_by,
        )

    def _skip(self, session: Session, run: Run, contract: ExtractFile, *, disabled: bool = False) -> bool:
        """End the run, with the reason, when there is nothing to write any more."""
        obsolete = _obsolete(session, contract, disabled=disabled)
        if obsolete:
            self.jobs.finish(session, run, outcome={"skipped": obsolete})
        return bool(obsolete)

    def _chunker(self, run: Run, work: _Work) -> Chunker | None:
        """None, and the run is ended, where it needs what only a configuration of before has named."""
        try:
            return self.build_chunker(work.owner_id, work.job_config.get("chunking", {}))
        except NotFoundError:  # nothing keeps the embedder of a configuration that was replaced
            with self.database.transaction() as session:
                self.jobs.fence(session, run)
                transform = session.get(CollectionTransform, work.transform_id)
                if transform is not None and transform.config_hash == work.config_hash:
                    raise
                self.jobs.finish(session, run, outcome={"skipped": "the transform was configured anew"})
            return None

    def _read(self, work: _Work) -> Document:
        with tempfile.TemporaryDirectory(prefix="extract-", dir=self.scratch_dir) as folder:
            path = Path(folder) / "source"
            self.blobs.download(work.file.object_key, path)
            source = SourceFile(path=path, name=work.file.name, media_type=work.file.media_type)
            return self.read(source, work.job_config.get("extraction", {}))


def _obsolete(session: Session, contract: ExtractFile, *, disabled: bool = False) -> str | None:
    """Why the run must write nothing, or None; then file and transform stay until the transaction ends.

    An upload makes a job of its own for its version, so two versions of a file may run side by side: only
    the lock on the file's row keeps the slower one from overwriting the newer. With `disabled`, a disabled
    transform is a reason, too.
    """
    transform = session.scalar(
        select(CollectionTransform)
        .where(CollectionTransform.collection_transform_id == contract.collection_transform_id)
        .with_for_update(read=True, key_share=True)
    )
    file = session.scalar(select(File).where(File.file_id == contract.file_id).with_for_update(read=True))
    if transform is None or file is None:
        return "the file or its transform was deleted"
    if file.collection_id != transform.collection_id:
        return "the file is not in the collection of the transform"
    if file.version != contract.file_version:
        return "the file was replaced"
    return "the transform is disabled" if disabled and _is_disabled(session, transform) else None


def _is_disabled(session: Session, transform: CollectionTransform) -> bool:
    """Whether it is, and stays so until this transaction ends.

    Otherwise the plan of somebody who enables it just now could still count on the run that ends here.
    """
    if transform.is_enabled:
        return False
    again = select(CollectionTransform.is_enabled).where(
        CollectionTransform.collection_transform_id == transform.collection_transform_id
    )
    return not session.scalar(again.with_for_update(read=True))


def _write_item(session: Session, work: _Work, document: Document, chunks: list[Chunk]) -> int:
    source = {
        "dataset_id": work.dataset_id,
        "collection_transform_id": work.transform_id,
        "file_id": work.file.file_id,
    }
    values = _item_values(work, document, chunks)
    known = session.scalar(select(_ITEMS.c.content_hash).filter_by(**source))
    statement = upsert(_ITEMS).values(owner_id=work.owner_id, **source, **values)
    item_id = session.scalar(
        statement.on_conflict_do_update(
            index_elements=list(source),
            index_where=_ITEMS.c.file_id.is_not(None),
            set_={name: statement.excluded[name] for name in values} | {"updated_at": func.now()},
        ).returning(_ITEMS.c.item_id)
    )
    assert item_id is not None
    if known != values["content_hash"]:
        _write_chunks(session, item_id, chunks)
    return int(item_id)


def _write_chunks(session: Session, item_id: int, chunks: list[Chunk]) -> None:
    session.execute(delete(_CHUNKS).where(_CHUNKS.c.item_id == item_id))
    rows = _chunk_rows(item_id, chunks)
    while part := list(islice(rows, _ROWS_PER_INSERT)):
        session.execute(insert(_CHUNKS), part)


def _item_values(work: _Work, document: Document, chunks: list[Chunk]) -> dict[str, Any]:
    tags = tags_of(document.metadata)
    return {
        "title": (document.title or work.file.name)[:_TITLE_LENGTH],
        "text": document.text,
        "content_hash": content_hash(*map(_content, chunks), *hashed_tags(tags)),
        "chunk_count": len(chunks),
        "media_type": document.media_type,
        "language": document.language,
        "page_count": document.page_count,
        "metadata": document.metadata,
        "tags": tags,
        "warnings": list(document.warnings),
    }


def _content(chunk: Chunk) -> str:
    """All that a chunk's row and vector are made of: where two are equal, neither is written again."""
    place = json.dumps([chunk.start, chunk.end, chunk.page, list(chunk.heading_path)])
    return f"{place}{chunk.text}"


def _chunk_rows(item_id: int, chunks: list[Chunk]) -> Iterator[dict[str, Any]]:
    for position, chunk in enumerate(chunks):
        yield {
            "chunk_id": chunk_id(item_id, chunk.start, chunk.end, chunk.text),
            "item_id": item_id,
            "position": position,
            "text": chunk.text,
            "start_char": chunk.start,
            "end_char": chunk.end,
            "token_count": chunk.token_count,
            "page": chunk.page,
            "heading_path": list(chunk.heading_path),
        }


def _write_outcome(session: Session, work: _Work, item_id: int, chunk_count: int, duration_ms: int) -> None:
    session.execute(
        update(_EXTRACTIONS)
        .where(
            _EXTRACTIONS.c.collection_transform_id == work.transform_id,
            _EXTRACTIONS.c.file_id == work.file.file_id,
            # The configuration may have changed while we worked: then the row waits for the next run.
            _EXTRACTIONS.c.config_hash == work.config_hash,
            _EXTRACTIONS.c.file_version == work.file.version,
        )
        .values(
            state="succeeded",
            item_id=item_id,
            chunk_count=chunk_count,
            error_code=None,
            error_message=None,
            duration_ms=duration_ms,
            processed_at=func.now(),
        )
    )
