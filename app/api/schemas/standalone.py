"""Standalone embedded datasets on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, RootModel, WithJsonSchema

from app.api.schemas.base import Body, JsonObject, Title
from app.services.standalone import MOST_DIMENSIONS, MOST_POINTS, PushedVectors

# Documented here, checked by the service, whose words the answer has.
_VECTOR = {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MOST_DIMENSIONS}
_DIMENSIONS = {"type": "integer", "minimum": 1, "maximum": MOST_DIMENSIONS}


class NewStandalone(Body):
    """An embedded dataset for vectors from outside.

    With `embedder_id`, the embedder that made them, they can be searched by words.
    """

    title: Title
    dimensions: Annotated[int, WithJsonSchema(_DIMENSIONS)]
    embedder_id: int | None = None


class PointBody(Body):
    """A vector; the same `id` replaces what was there.

    `payload` is any JSON object of at most 64 KiB. `text` is what a match shows, `item_title` and the integer
    `item_id` group points to documents; a point without `item_id` is a document of its own. `owner_id` is
    the server's.
    """

    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    vector: Annotated[list[float], WithJsonSchema(_VECTOR)]
    payload: JsonObject = Field(default_factory=dict)


class PushVectors(Body):
    """The points to write."""

    points: list[PointBody] = Field(min_length=1, max_length=MOST_POINTS)


class PushedVectorsReply(RootModel[PushedVectors]):
    """What was written."""
