"""Visualizations: one run's map. Points live in one Arrow file, topics are rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Float, ForeignKey, Index, Integer, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps


class Visualization(Base, Owned, Timestamps):
    """The map of one embedded dataset at one moment."""

    __tablename__ = "visualizations"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'processing', 'completed', 'failed')", name="status"),
        Index("ix_visualizations_transform", "visualization_transform_id", "visualization_id"),
    )

    visualization_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    visualization_transform_id: Mapped[int] = mapped_column(
        ForeignKey("visualization_transforms.visualization_transform_id", ondelete="CASCADE")
    )
    status: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID] = mapped_column(Uuid, index=True)
    stage: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[float] = mapped_column(Float, server_default=text("0"))  # 0 to 1
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    point_count: Mapped[int | None] = mapped_column(Integer)
    cluster_count: Mapped[int | None] = mapped_column(Integer)
    noise_count: Mapped[int | None] = mapped_column(Integer)
    points_key: Mapped[str | None] = mapped_column(Text)  # object key of the Arrow file
    quality: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    stats_json: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    error_message: Mapped[str | None] = mapped_column(Text)


class VisualizationCluster(Base):
    """A topic on a map."""

    __tablename__ = "visualization_clusters"

    visualization_id: Mapped[int] = mapped_column(
        ForeignKey("visualizations.visualization_id", ondelete="CASCADE"), primary_key=True
    )
    cluster_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    keywords: Mapped[list[str]] = mapped_column(ARRAY(Text))
    size: Mapped[int] = mapped_column(Integer)
    x: Mapped[float] = mapped_column(Float)
    y: Mapped[float] = mapped_column(Float)
    zoom: Mapped[int] = mapped_column(Integer)  # the label shows from this step of zooming in; 0 is always
    name_source: Mapped[str] = mapped_column(Text)  # keywords, number or language_model
    exemplar_chunk_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
