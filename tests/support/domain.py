"""Rows to test with: an owner with collections, datasets and transforms, straight in the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from app.container import Container
from app.events.types import StatusEvent
from app.ids import chunk_id, content_hash
from app.jobs.admission import admit
from app.jobs.outbox import Envelope, Outbox
from app.services.jobs import Jobs
from app.storage.postgres.session import Database, DatabaseOptions
from app.storage.postgres.tables import (
    ChunkRow,
    Collection,
    CollectionTransform,
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    EmbedderRow,
    File,
    Item,
    Owner,
)
from tests.support.stack import Databases

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Recorder:
    """A sender and a publisher that remember; the real ones are tested with the broker."""

    database: Database
    sent: list[Envelope] = field(default_factory=list)
    told: list[StatusEvent] = field(default_factory=list)

    def send(self, envelopes: Iterable[Envelope]) -> None:
        self.sent += envelopes

    def admit(self, queue: str) -> None:
        self.sent += admit(self.database, queue)

    def publish(self, event: StatusEvent) -> None:
        self.told.append(event)

    def close(self) -> None:
        """A status stream is closed with its process."""

    def kinds(self) -> list[str]:
        return [envelope.kind for envelope in self.sent]


def migration_config(url: str) -> Config:
    """What alembic's commands take, for this database."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["url"] = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    return config


def migrate(url: str) -> None:
    """Bring a database to the newest schema."""
    command.upgrade(migration_config(url), "head")


_INDEXES = text("""SELECT collection_name FROM embedded_datasets
    UNION SELECT arguments ->> 'collection_name' FROM jobs WHERE kind = 'drop_vector_index'""")


def drop_indexes(container: Container) -> None:
    """Leave none of a test's vector indexes on the server, which all tests share."""
    with container.database.transaction() as session:
        names = session.scalars(_INDEXES).all()
    for name in set(names) & set(container.vectors.names("")):
        container.vectors.drop(name)


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    """A migrated database that others are copied from."""
    url = databases.create()
    migrate(url)
    return url


@pytest.fixture
def migrated_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    url = databases.create(template=migrated_template)
    yield url
    databases.drop(url)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(DatabaseOptions(url=migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)))
    yield opened
    opened.close()


@pytest.fixture
def recorder(database: Database) -> Recorder:
    return Recorder(database)


@pytest.fixture
def outbox(recorder: Recorder) -> Outbox:
    return Outbox(recorder)


@pytest.fixture
def jobs(database: Database, outbox: Outbox) -> Jobs:
    return Jobs(database, outbox)


class World:
    """Writes rows; each method returns the new row's id."""

    def __init__(self, database: Database, owner_id: str = "ada") -> None:
        self.database = database
        self.owner_id = owner_id
        with database.transaction() as session:
            session.merge(Owner(owner_id=owner_id, display_name=owner_id.title()))

    def collection(self) -> int:
        return self._add(Collection(owner_id=self.owner_id, title="Papers", tags=[]), "collection_id")

    def dataset(self) -> int:
        return self._add(Dataset(owner_id=self.owner_id, title="Texts", tags=[]), "dataset_id")

    def file(self, collection_id: int, name: str = "a.txt", version: int = 1) -> int:
        row = File(
            owner_id=self.owner_id,
            collection_id=collection_id,
            name=name,
            media_type="text/plain",
            size_bytes=1,
            content_hash="0" * 64,
            object_key=f"files/{uuid4()}",
            version=version,
        )
        return self._add(row, "file_id")

    def collection_transform(self, collection_id: int, dataset_id: int) -> int:
        row = CollectionTransform(
            owner_id=self.owner_id,
            title="t",
            collection_id=collection_id,
            dataset_id=dataset_id,
            chunk_size=200,
            job_config={},
            config_hash="c1",
        )
        return self._add(row, "collection_transform_id")

    def embedder(self, dimensions: int = 3) -> int:
        row = EmbedderRow(
            owner_id=self.owner_id,
            name="e",
            provider="local",
            model="m",
            batch_size=8,
            dimensions=dimensions,
            max_input_tokens=256,
            truncate_strategy="split",
        )
        return self._add(row, "embedder_id")

    def dataset_transform(self, dataset_id: int) -> int:
        row = DatasetTransform(owner_id=self.owner_id, title="t", source_dataset_id=dataset_id)
        return self._add(row, "dataset_transform_id")

    def embedded_dataset(self, dataset_transform_id: int, dataset_id: int, embedder_id: int) -> int:
        row = EmbeddedDataset(
            owner_id=self.owner_id,
            title="ed",
            dataset_transform_id=dataset_transform_id,
            source_dataset_id=dataset_id,
            embedder_id=embedder_id,
            collection_name=f"test_{uuid4().hex[:12]}",
            dimensions=3,
        )
        return self._add(row, "embedded_dataset_id")

    def item(self, dataset_id: int, texts: Iterable[str] = ("one", "two"), title: str = "item") -> int:
        texts = list(texts)
        row = Item(
            owner_id=self.owner_id,
            dataset_id=dataset_id,
            title=f"{title} {uuid4().hex[:6]}",
            text="\n".join(texts),
            content_hash=content_hash(*texts),
            chunk_count=len(texts),
        )
        item_id = self._add(row, "item_id")
        start = 0
        with self.database.transaction() as session:
            for position, text in enumerate(texts):
                session.add(
                    ChunkRow(
                        chunk_id=chunk_id(item_id, start, start + len(text), text),
                        item_id=item_id,
                        position=position,
                        text=text,
                        start_char=start,
                        end_char=start + len(text),
                        token_count=1,
                    )
                )
                start += len(text) + 1
        return item_id

    def _add(self, row: object, key: str) -> int:
        with self.database.transaction() as session:
            session.add(row)
            session.flush()
            return int(getattr(row, key))


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
