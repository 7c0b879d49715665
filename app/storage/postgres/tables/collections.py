"""Collections and the files in them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.storage.postgres.tables.base import Base, Described, Owned, Timestamps


class Collection(Base, Owned, Described, Timestamps):
    """A user's set of uploaded files."""

    __tablename__ = "collections"

    collection_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))


class File(Base, Owned, Timestamps):
    """One uploaded file; uploading the same name again makes the next version of the same row."""

    __tablename__ = "files"
    __table_args__ = (
        Index("uq_files_collection_id_name", "collection_id", "name", unique=True),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        CheckConstraint("version >= 1", name="version"),
    )

    file_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.collection_id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)  # metadata only: never part of a path or key
    media_type: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    content_hash: Mapped[str] = mapped_column(Text)  # SHA-256, hex
    # Sorted as a bucket is listed, whatever the database's own order is (jobs/stored_objects).
    object_key: Mapped[str] = mapped_column(Text(collation="C"), unique=True)
    version: Mapped[int] = mapped_column(server_default=text("1"))

    collection: Mapped[Collection] = relationship()
