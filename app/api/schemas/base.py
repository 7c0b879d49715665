"""What all schemas share."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from flask_openapi3.types import ResponseDict
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema

from app.services.described import DETAILS_LENGTH, MOST_TAGS, TAG_LENGTH, TITLE_LENGTH
from app.services.paging import Page

# Every wrong value is refused with its field and rule; nothing is guessed, nothing unknown is ignored.
STRICT = ConfigDict(extra="forbid", strict=True)


class Body(BaseModel):
    """A request body."""

    model_config = STRICT


# A moment with its time zone, as JSON has it: the strictness of bodies would ask for a datetime.
Moment = Annotated[AwareDatetime, Field(strict=False)]

# Documented here, checked by the services, whose words the answer has.
Title = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": TITLE_LENGTH})]
Details = Annotated[str, WithJsonSchema({"type": "string", "maxLength": DETAILS_LENGTH})]
Tag = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": TAG_LENGTH})]
Tags = Annotated[
    list[str],
    WithJsonSchema({"type": "array", "items": TypeAdapter(Tag).json_schema(), "maxItems": MOST_TAGS}),
]


class QueryString(BaseModel):
    """The parameters of a path's query; a misspelt one would silently ask for something else."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """As pydantic has it; made once where the framework asks for it, which is with every request."""
        return super().model_json_schema(*args, **options) if args or options else _schema(cls)


@cache
def _schema(query: type[QueryString]) -> dict[str, Any]:
    return query.model_json_schema(mode="validation")


class Window(QueryString):
    """Which part of a list."""

    limit: int = Field(20, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=1_000_000_000)


class KeyedWindow(Window):
    """Which part of a list: after `offset` rows, or after the page whose `next_cursor` is given."""

    cursor: str | None = Field(None, max_length=2048)


class SearchWindow(Window):
    """Which part of a list, of the rows that mention `search`."""

    search: str | None = Field(None, max_length=256)


class KeyedSearchWindow(KeyedWindow, SearchWindow):
    """As SearchWindow, or after the page whose `next_cursor` is given."""


class SortedWindow(KeyedSearchWindow):
    """As KeyedSearchWindow, in an order."""

    limit: int = Field(10, ge=1, le=1000)
    sort_direction: Literal["asc", "desc"] = "desc"

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return self.sort_direction == "desc"


class PageReply(BaseModel):
    """A part of a list; `next_cursor` is null at its end."""

    rows: ClassVar[str] = "items"  # the field that holds them
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None

    @classmethod
    def of(cls, page: Page[Any]) -> Self:
        """From a page of a service."""
        return cls.model_validate(
            {
                cls.rows: list(page.items),
                "total_count": page.total_count,
                "limit": page.limit,
                "offset": page.offset,
                "next_cursor": page.next_cursor,
            }
        )


class Problem(BaseModel):
    """An error: `code` is for programs, `message` for people, `field` names what was wrong."""

    type: str
    title: str
    status: int
    detail: str
    error: str  # and message: what clients of the original read
    message: str
    code: str
    request_id: str | None = None
    field: str | None = None


class Message(BaseModel):
    """What was started, or done."""

    message: str


class RetriedCount(BaseModel):
    """How many were made new again."""

    retried_count: int


JsonObject = dict[str, Any]
PROBLEMS: ResponseDict = {"400": Problem, "404": Problem}
WITH_CONFLICT: ResponseDict = {**PROBLEMS, "409": Problem}
