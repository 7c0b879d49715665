"""Dead letters on the wire."""

from __future__ import annotations

from typing import Any, Literal

from flask_openapi3.models.file import FileStorage
from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, Moment, PageReply, QueryString, Window
from app.services.bulk_outcomes import BulkProblem
from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetterPage, DeadLetterView, LetterDetail, LetterGroups
from app.services.letter_acts import Edited
from app.services.letter_bulks import MOST_LETTERS, BulkOrder, BulkPreview, BulkUndone, BulkView
from app.services.letter_import import ImportReport
from app.services.letter_moves import Destination

_Text = str | None


class DeadLetterPath(BaseModel):
    """Names a dead letter."""

    dead_letter_id: int


class BulkPath(BaseModel):
    """Names a bulk job."""

    bulk_id: int


class LetterFilterQuery(QueryString):
    """Which letters. `argument` reads path=value in the job's arguments; ages are in seconds since death.

    `search` finds words of error, document, kind and owner, longer ones that begin so, and ids.
    """

    state: Literal["open", "replayed", "discarded", "expired", "any"] = "open"
    fingerprint: _Text = Field(None, max_length=64)
    reason: _Text = Field(None, max_length=64)
    actor: _Text = Field(None, max_length=200)
    queue: _Text = Field(None, max_length=200)
    pool: _Text = Field(None, max_length=200)
    owner_id: _Text = Field(None, max_length=500)
    job_id: _Text = Field(None, max_length=64)
    message_id: _Text = Field(None, max_length=500)
    worker: _Text = Field(None, max_length=500)
    trace_id: _Text = Field(None, max_length=64)
    error_class: _Text = Field(None, max_length=500)
    argument: _Text = Field(None, max_length=500)
    search: _Text = Field(None, max_length=200)
    attempts: int | None = Field(None, ge=0, le=1_000_000)
    younger_than: float | None = Field(None, ge=0, le=1e9)
    older_than: float | None = Field(None, ge=0, le=1e9)
    bulk_id: int | None = Field(None, ge=0, le=2**62)

    def filter(self) -> LetterFilter:
        """The same for the service."""
        given = self.model_dump(include=set(LetterFilterQuery.model_fields))
        return LetterFilter.of(given | {"state": None if self.state == "any" else self.state})


class DeadLettersQuery(LetterFilterQuery):
    """Which letters, and which page of them; the token of one page leads to older ones."""

    limit: int = Field(50, ge=1, le=1000)
    continuation_token: str | None = Field(None, max_length=200)


class LetterGroupsQuery(Window):
    """Which part of the groups, and whether those whose letters are all dealt with are left out."""

    limit: int = Field(50, ge=1, le=1000)
    only_open: bool = True


class LetterExportQuery(LetterFilterQuery):
    """Which letters, and whether with what they hold."""

    payloads: bool = False


class LetterImportForm(BaseModel):
    """An export with payloads: a letter a line."""

    file: FileStorage


class LetterImportQuery(QueryString):
    """A dry run only says what would come back."""

    dry_run: bool = False


class ImportReply(RootModel[ImportReport]):
    """What came back, and what did not."""


class WhyBody(Body):
    """Why, for the record."""

    why: str = Field("", max_length=1000)


class ReplayBody(WhyBody):
    """`at` puts it off until a moment, at most 30 days away."""

    at: Moment | None = None


class RerouteBody(ReplayBody):
    """`to` is one of the letter's destinations; a moment is only for the letter's own job."""

    to: str = Field(min_length=1, max_length=200)


class EditBody(WhyBody):
    """The job's arguments as they shall be, all of them. A dry run only says what would change."""

    arguments: dict[str, Any]
    dry_run: bool = False


class BulkBody(Body):
    """What is to be done to all open letters that match `filter`; nothing is done before it is started."""

    act: Literal["replay", "discard"]
    why: str = Field(min_length=1, max_length=900)
    filter: LetterFilterQuery
    per_second: float = 50.0
    canary: int = Field(0, ge=0, le=MOST_LETTERS)
    stop_on_failure_share: float | None = None

    def order(self) -> BulkOrder:
        """The same for the service."""
        return BulkOrder(self.act, self.why, self.per_second, self.canary, self.stop_on_failure_share)


class DeadLetterList(RootModel[DeadLetterPage]):
    """A page of letters, the last to die first."""


class DeadLetterReply(RootModel[DeadLetterView]):
    """One letter's row."""


class LetterDetailReply(RootModel[LetterDetail]):
    """One letter with what it holds."""


class DestinationList(BaseModel):
    """Kinds of job that can take a letter's work, none for one that has ended."""

    items: list[Destination]


class LetterGroupsReply(RootModel[LetterGroups]):
    """Letters by cause."""


class EditedReply(RootModel[Edited]):
    """What was changed, and the new job."""


class BulkReply(RootModel[BulkView]):
    """One bulk job."""


class BulkPreviewReply(RootModel[BulkPreview]):
    """What a bulk job is about, how far it is, and how the letters fare that it sent again."""


class BulkUndoneReply(RootModel[BulkUndone]):
    """A bulk discard that was taken back."""


class BulkList(PageReply):
    """A page of bulk jobs, the newest first."""

    items: list[BulkView]


class BulkProblems(BaseModel):
    """Letters that a bulk job passed over, could not end, or that died again: at most 1,000, oldest first."""

    items: list[BulkProblem]
