"""Ids in paths that are not numbers."""

from __future__ import annotations

from uuid import UUID

from app.errors import NotFoundError


def uuid_of(text: str, noun: str) -> UUID:
    """The id; raises NotFoundError, because nothing has an id that is none."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundError(f"no {noun} {text[:50]}") from None
