"""Failures as Qdrant words them: `{"status": {"error": …}}` with its HTTP status."""

from __future__ import annotations


class QdrantError(Exception):
    """A failure that the client sees."""

    http_status = 500


class MissingError(QdrantError):
    """The collection or the point is not there."""

    http_status = 404


class AlreadyExistsError(QdrantError):
    """A collection of this name is there."""

    http_status = 409


class WrongInputError(QdrantError):
    """The request breaks a rule of the collection."""

    http_status = 400


class UnreadableBodyError(QdrantError):
    """The body is no JSON, or not of the shape the route takes."""

    http_status = 422


class UnsupportedError(QdrantError):
    """Qdrant can do it, this development server cannot."""

    http_status = 501

    def __init__(self, what: str) -> None:
        super().__init__(f"Not supported by the development vector server: {what}. Use a real Qdrant.")
