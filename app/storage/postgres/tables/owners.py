"""Owners: whom a row belongs to."""

from __future__ import annotations

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Timestamps


class Owner(Base, Timestamps):
    """A person or team; the id is stable and opaque."""

    __tablename__ = "owners"

    owner_id: Mapped[str] = mapped_column(Text, primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
