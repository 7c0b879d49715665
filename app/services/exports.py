"""Whole datasets, embedded datasets and maps as rows, a batch at a time, so that memory stays bounded.

What is written meanwhile may or may not be among the rows: an export is no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, select

from app.errors import NotFoundError
from app.security.principal import Principal
from app.services.search_passages import pushed_text
from app.services.visualizations import Visualizations
from app.storage.filters import Equal
from app.storage.postgres.queries.owned import owned, readable
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, Dataset, EmbeddedDataset, Item
from app.storage.qdrant import Point, VectorStore

_ROWS = 1000
_VECTORS = 256

ColumnKind = Literal["int", "float", "text", "texts", "json", "floats"]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """Rows in batches, and the kind of each of their columns. A "json" value is any JSON value."""

    name: str
    columns: Mapping[str, ColumnKind]
    batches: Iterator[Sequence[Record]]


_CHUNK_COLUMNS: Mapping[str, ColumnKind] = {
    "item_id": "int",
    "item_title": "text",
    "file_id": "int",
    "media_type": "text",
    "language": "text",
    "chunk_id": "text",
    "position": "int",
    "text": "text",
    "start_char": "int",
    "end_char": "int",
    "token_count": "int",
    "page": "int",
    "heading_path": "texts",
    "metadata": "json",
    "item_metadata": "json",
}
_POINT_COLUMNS: Mapping[str, ColumnKind] = {
    "point_id": "text",
    "item_id": "int",
    "text": "text",
    "payload": "json",
}
_MAP_COLUMNS: Mapping[str, ColumnKind] = {
    "point_id": "text",
    "item_id": "int",
    "x": "float",
    "y": "float",
    "cluster": "int",
    "nearest": "int",
    "probability": "float",
}
_CLUSTER_COLUMNS: Mapping[str, ColumnKind] = {
    "cluster_id": "int",
    "name": "text",
    "keywords": "texts",
    "size": "int",
    "x": "float",
    "y": "float",
    "zoom": "int",
    "name_source": "text",
    "exemplar_chunk_ids": "texts",
}


@dataclass(frozen=True, slots=True)
class Exports:
    """Verbs on exports. What cannot be exported is refused before the first batch."""

    database: Database
    vectors: VectorStore
    visualizations: Visualizations

    def dataset(self, principal: Principal, dataset_id: int) -> Export:
        """Every passage of a dataset in reading order, item by item; raises NotFoundError."""
        with self.database.transaction() as session:
            readable(session, Dataset, dataset_id, principal.owner_id)
        return Export(f"dataset-{dataset_id}", _CHUNK_COLUMNS, self._chunks(dataset_id))

    def embedded_dataset(self, principal: Principal, embedded_dataset_id: int, *, vectors: bool) -> Export:
        """Every point in the order of ids, with its numbers where asked for; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
        columns: dict[str, ColumnKind] = {**_POINT_COLUMNS}
        if vectors:
            columns["vector"] = "floats"
        batches = self._points(principal, row.collection_name, vectors=vectors)
        return Export(f"embedded-dataset-{embedded_dataset_id}", columns, batches)

    def map_points(self, principal: Principal, visualization_id: int) -> Export:
        """Every point of a map; raises NotFoundError, ConflictError while there is none."""
        pages = self.visualizations.all_points(principal, visualization_id, batch=_ROWS)
        return Export(f"map-{visualization_id}-points", _MAP_COLUMNS, pages)

    def map_clusters(self, principal: Principal, visualization_id: int) -> Export:
        """Every topic of a map, largest first; raises NotFoundError."""
        found = self.visualizations.clusters(principal, visualization_id)
        rows = [{name: asdict(each)[name] for name in _CLUSTER_COLUMNS} for each in found]
        for row in rows:
            row["exemplar_chunk_ids"] = [str(key) for key in row["exemplar_chunk_ids"]]
        return Export(f"map-{visualization_id}-clusters", _CLUSTER_COLUMNS, iter([rows]))

    def _chunks(self, dataset_id: int) -> Iterator[Sequence[Record]]:
        after = (0, -1)
        while True:
            statement = (
                select(ChunkRow, Item)
                .join(Item, Item.item_id == ChunkRow.item_id)
                .where(
                    Item.dataset_id == dataset_id,
                    (Item.item_id > after[0]) | ((Item.item_id == after[0]) & (ChunkRow.position > after[1])),
                )
                .order_by(Item.item_id, ChunkRow.position)
                .limit(_ROWS)
            )
            with self.database.transaction() as session:
                rows = session.execute(statement).all()
            if not rows:
                return
            yield [_passage(row) for row in rows]
            after = (rows[-1].Item.item_id, rows[-1].ChunkRow.position)

    def _points(self, principal: Principal, index: str, *, vectors: bool) -> Iterator[Sequence[Record]]:
        mine, cursor = Equal("owner_id", principal.owner_id), None
        while True:
            try:
                page = self.vectors.scroll(
                    index, limit=_VECTORS, cursor=cursor, filters=mine, with_vectors=vectors
                )
            except NotFoundError:  # the index is made with its first vectors
                return
            texts = self._texts(principal.owner_id, [point.id for point in page.points])
            yield [_point(point, texts.get(point.id), vectors=vectors) for point in page.points]
            cursor = page.cursor
            if cursor is None:
                return

    def _texts(self, owner_id: str, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Of the owner's passages only: who pushes vectors chooses their ids, and might choose another's."""
        statement = (
            select(ChunkRow.chunk_id, ChunkRow.text)
            .join(Item, Item.item_id == ChunkRow.item_id)
            .where(ChunkRow.chunk_id.in_(ids), Item.owner_id == owner_id)
        )
        with self.database.transaction() as session:
            return dict(session.execute(statement).tuples().all())


def _passage(row: Row[tuple[ChunkRow, Item]]) -> Record:
    chunk, item = row
    return {
        "item_id": item.item_id,
        "item_title": item.title,
        "file_id": item.file_id,
        "media_type": item.media_type,
        "language": item.language,
        "chunk_id": str(chunk.chunk_id),
        "position": chunk.position,
        "text": chunk.text,
        "start_char": chunk.start_char,
        "end_char": chunk.end_char,
        "token_count": chunk.token_count,
        "page": chunk.page,
        "heading_path": list(chunk.heading_path),
        "metadata": chunk.metadata_,
        "item_metadata": item.metadata_,
    }


def _point(point: Point, text: str | None, *, vectors: bool) -> Record:
    payload = {name: value for name, value in point.payload.items() if name != "owner_id"}
    words = text if text is not None else pushed_text(payload)
    record = {"point_id": str(point.id), "item_id": payload.get("item_id"), "text": words, "payload": payload}
    if vectors:
        record["vector"] = [] if point.vector is None else point.vector.tolist()
    return record
