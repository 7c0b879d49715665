"""What a dead letter is about: file or documents and transform of its job, and which pages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.letter_words import file_ids, item_ids
from app.storage.postgres.tables import (
    Base,
    Collection,
    CollectionTransform,
    DatasetTransform,
    DeadLetterRow,
    EmbeddedDataset,
    File,
    FileExtraction,
    Item,
    VisualizationTransform,
)

Page = Literal["collection", "document", "map"]


@dataclass(frozen=True, slots=True)
class LetterSubject:
    """A thing that a letter is about. `name` is None for one that is gone.

    `page` and `page_id` say which page for people shows it; None where there is none.
    """

    kind: str
    id: int
    name: str | None
    page: Page | None = None
    page_id: int | None = None


def subjects_of(session: Session, row: DeadLetterRow) -> tuple[LetterSubject, ...]:
    """What the arguments of the letter's job name, documents first; things of other owners count as gone."""
    look = _Look(session, row.owner_id)
    named = row.arguments or {}
    found = [look.file(id_, named) for id_ in file_ids(named)]
    found += [look.item(id_) for id_ in item_ids(named)]
    for key, find in look.transforms():
        id_ = named.get(key)
        if isinstance(id_, int):
            found.append(find(id_))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Look:
    session: Session
    owner_id: str | None

    def transforms(self) -> Iterator[tuple[str, Callable[[int], LetterSubject]]]:
        """How what an argument of this name stands for is found."""
        yield "collection_transform_id", self.collection_transform
        yield "dataset_transform_id", self.dataset_transform
        yield "embedded_dataset_id", self.embedded_dataset
        yield "visualization_transform_id", self.visualization_transform

    def file(self, id_: int, named: dict[str, Any]) -> LetterSubject:
        """A file; it is read where an earlier version became a document, else it is in its collection."""
        file = self._mine(File, id_)
        if file is None:
            return LetterSubject("file", id_, None)
        transform = named.get("collection_transform_id")
        earlier = self.session.get(FileExtraction, (transform, id_)) if isinstance(transform, int) else None
        if earlier is not None and earlier.item_id is not None:
            return LetterSubject("file", id_, file.name, "document", earlier.item_id)
        return LetterSubject("file", id_, file.name, "collection", file.collection_id)

    def item(self, id_: int) -> LetterSubject:
        """A document of a dataset."""
        item = self._mine(Item, id_)
        if item is None:
            return LetterSubject("item", id_, None)
        return LetterSubject("item", id_, item.title, "document", id_)

    def collection_transform(self, id_: int) -> LetterSubject:
        """Its collection's page shows it."""
        transform = self._mine(CollectionTransform, id_)
        if transform is None:
            return LetterSubject("collection_transform", id_, None)
        return LetterSubject(
            "collection_transform", id_, transform.title, "collection", transform.collection_id
        )

    def dataset_transform(self, id_: int) -> LetterSubject:
        """The page of the collection whose texts it embeds shows it."""
        transform = self._mine(DatasetTransform, id_)
        if transform is None:
            return LetterSubject("dataset_transform", id_, None)
        return self._of_dataset("dataset_transform", id_, transform.title, transform.source_dataset_id)

    def embedded_dataset(self, id_: int) -> LetterSubject:
        """The same for a dataset in one embedder's vectors."""
        embedded = self._mine(EmbeddedDataset, id_)
        if embedded is None:
            return LetterSubject("embedded_dataset", id_, None)
        return self._of_dataset("embedded_dataset", id_, embedded.title, embedded.source_dataset_id)

    def visualization_transform(self, id_: int) -> LetterSubject:
        """Its map has a page."""
        transform = self._mine(VisualizationTransform, id_)
        if transform is None:
            return LetterSubject("visualization_transform", id_, None)
        return LetterSubject("visualization_transform", id_, transform.title, "map", id_)

    def _of_dataset(self, kind: str, id_: int, title: str, dataset_id: int | None) -> LetterSubject:
        rule = CollectionTransform
        filled = select(rule.collection_id).join(Collection, Collection.collection_id == rule.collection_id)
        mine = filled.where(rule.dataset_id == dataset_id, Collection.owner_id == self.owner_id)
        collection_id = self.session.scalar(mine.order_by(rule.collection_transform_id).limit(1))
        if collection_id is None:
            return LetterSubject(kind, id_, title)
        return LetterSubject(kind, id_, title, "collection", collection_id)

    def _mine(self, table: type[Base], id_: int) -> Any:
        row: Any = self.session.get(table, id_)
        return row if row is not None and row.owner_id == self.owner_id else None
