"""The three transforms, and what each has done so far (the set that planning subtracts)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps

_OUTCOMES = "state IN ('pending', 'succeeded', 'failed')"


class CollectionTransform(Base, Owned, Timestamps):
    """A standing rule: the files of a collection become items of a dataset."""

    __tablename__ = "collection_transforms"

    collection_transform_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    collection_id: Mapped[int] = mapped_column(
        ForeignKey("collections.collection_id", ondelete="CASCADE"), index=True
    )
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.dataset_id", ondelete="CASCADE"), index=True)
    is_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    chunk_size: Mapped[int] = mapped_column(Integer)
    job_config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    config_hash: Mapped[str] = mapped_column(Text)


class FileExtraction(Base):
    """What a collection transform did with a file: one row per pair, replaced when either changes."""

    __tablename__ = "file_extractions"
    __table_args__ = (
        CheckConstraint(_OUTCOMES, name="state"),
        Index("ix_file_extractions_file_id", "file_id"),
        Index(
            "ix_file_extractions_pending",
            "collection_transform_id",
            "job_id",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    collection_transform_id: Mapped[int] = mapped_column(
        ForeignKey("collection_transforms.collection_transform_id", ondelete="CASCADE"), primary_key=True
    )
    file_id: Mapped[int] = mapped_column(ForeignKey("files.file_id", ondelete="CASCADE"), primary_key=True)
    file_version: Mapped[int] = mapped_column(Integer)
    config_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID] = mapped_column(Uuid, index=True)
    item_id: Mapped[int | None] = mapped_column(ForeignKey("items.item_id", ondelete="SET NULL"))
    chunk_count: Mapped[int | None] = mapped_column(Integer)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    duration_ms: Mapped[int | None] = mapped_column(Integer)
    processed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class DatasetTransform(Base, Owned, Timestamps):
    """A standing rule: the items of a dataset go through one or more embedders."""

    __tablename__ = "dataset_transforms"

    dataset_transform_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    source_dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.dataset_id", ondelete="CASCADE"), index=True
    )
    is_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    job_config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class EmbeddedDataset(Base, Owned, Timestamps):
    """One dataset through one embedder: one vector index. Or vectors that were pushed: it stands alone."""

    __tablename__ = "embedded_datasets"
    __table_args__ = (
        CheckConstraint(
            "(dataset_transform_id IS NULL) = (source_dataset_id IS NULL) "
            "AND (embedder_id IS NOT NULL OR dataset_transform_id IS NULL)",
            name="standalone",
        ),
        Index("uq_embedded_datasets_transform_embedder", "dataset_transform_id", "embedder_id", unique=True),
    )

    embedded_dataset_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    dataset_transform_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_transforms.dataset_transform_id", ondelete="CASCADE")
    )
    source_dataset_id: Mapped[int | None] = mapped_column(
        ForeignKey("datasets.dataset_id", ondelete="CASCADE"), index=True
    )
    embedder_id: Mapped[int | None] = mapped_column(
        ForeignKey("embedders.embedder_id", ondelete="RESTRICT"), index=True
    )
    collection_name: Mapped[str] = mapped_column(Text, unique=True)  # the vector index's name in Qdrant
    dimensions: Mapped[int] = mapped_column(Integer)

    @property
    def is_standalone(self) -> bool:
        """Whether its vectors are pushed from outside; then no transform keeps it."""
        return self.dataset_transform_id is None


class ItemEmbedding(Base):
    """What an embedded dataset holds of an item: compared by content hash, so an edit is seen."""

    __tablename__ = "item_embeddings"
    __table_args__ = (
        CheckConstraint(_OUTCOMES, name="state"),
        Index("ix_item_embeddings_item_id", "item_id"),
        Index(
            "ix_item_embeddings_pending",
            "embedded_dataset_id",
            "job_id",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    embedded_dataset_id: Mapped[int] = mapped_column(
        ForeignKey("embedded_datasets.embedded_dataset_id", ondelete="CASCADE"), primary_key=True
    )
    # No foreign key: the row outlives its item until the item's vectors are gone (planning sweeps it).
    item_id: Mapped[int] = mapped_column(primary_key=True)
    content_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID] = mapped_column(Uuid, index=True)
    chunk_count: Mapped[int] = mapped_column(Integer)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    processed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class VisualizationTransform(Base, Owned, Timestamps):
    """A standing rule: an embedded dataset becomes a map."""

    __tablename__ = "visualization_transforms"

    visualization_transform_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    embedded_dataset_id: Mapped[int] = mapped_column(
        ForeignKey("embedded_datasets.embedded_dataset_id", ondelete="CASCADE"), index=True
    )
    is_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    visualization_config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
