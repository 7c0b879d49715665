"""Datasets, their items and the chunks of an item."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, Uuid
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, deferred, mapped_column

from app.storage.postgres.tables.base import Base, Described, Owned, Timestamps

# What full-text search looks in. Without a language's rules, since a dataset may hold many; cut, because
# Postgres refuses a text whose words take more than a megabyte.
WORDS = "to_tsvector('simple'::regconfig, left(chunks.text, 100000))"


class Dataset(Base, Owned, Described, Timestamps):
    """Text produced from files, or pushed through the API."""

    __tablename__ = "datasets"

    dataset_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    is_public: Mapped[bool] = mapped_column(server_default=sql("false"))


class Item(Base, Owned, Timestamps):
    """One document of a dataset: the text of a file through a collection transform, or a pushed one."""

    __tablename__ = "items"
    __table_args__ = (
        # The source is the key, not the title: two files may share a title.
        Index(
            "uq_items_source",
            "dataset_id",
            "collection_transform_id",
            "file_id",
            unique=True,
            postgresql_where=sql("file_id IS NOT NULL"),
        ),
        Index(
            "uq_items_pushed_title",
            "dataset_id",
            "title",
            unique=True,
            postgresql_where=sql("file_id IS NULL"),
        ),
        Index("ix_items_dataset_id_item_id", "dataset_id", "item_id"),
    )

    item_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.dataset_id", ondelete="CASCADE"))
    collection_transform_id: Mapped[int | None] = mapped_column(
        ForeignKey("collection_transforms.collection_transform_id", ondelete="CASCADE")
    )
    file_id: Mapped[int | None] = mapped_column(ForeignKey("files.file_id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = deferred(mapped_column(Text))  # what every chunk's span indexes into
    content_hash: Mapped[str] = mapped_column(Text)  # of the chunk set: changes when any chunk changes
    chunk_count: Mapped[int] = mapped_column(Integer)
    media_type: Mapped[str | None] = mapped_column(Text)
    language: Mapped[str | None] = mapped_column(Text)
    page_count: Mapped[int | None] = mapped_column(Integer)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=sql("'{}'"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))  # of its metadata
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))


class ChunkRow(Base):
    """A passage: `item.text[start_char:end_char] == text`. Its id is its vector's id in every index."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index("uq_chunks_item_id_position", "item_id", "position", unique=True),
        Index("ix_chunks_words", sql(WORDS), postgresql_using="gin"),
        CheckConstraint("end_char > start_char AND start_char >= 0", name="span"),
    )

    chunk_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.item_id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    start_char: Mapped[int] = mapped_column(Integer)
    end_char: Mapped[int] = mapped_column(Integer)
    token_count: Mapped[int] = mapped_column(Integer)
    page: Mapped[int | None] = mapped_column(Integer)
    heading_path: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=sql("'{}'"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=sql("'{}'"))
