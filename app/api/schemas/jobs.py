"""Jobs on the wire."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, RootModel

from app.api.schemas.base import KeyedWindow
from app.services.cancelling import Cancelled
from app.services.jobs import JobState, JobView, ScopeKind
from app.services.paging import Page


class JobPath(BaseModel):
    """Names a job."""

    job_id: str


class JobQuery(KeyedWindow):
    """Which jobs; `scope_id` is the id of the transform or embedded dataset that `scope_kind` names."""

    state: JobState | None = None
    kind: str | None = None
    scope_kind: ScopeKind | None = None
    scope_id: int | None = None


class JobReply(RootModel[JobView]):
    """One job."""


class JobList(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobView]
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None

    @classmethod
    def of(cls, page: Page[JobView]) -> Self:
        """From a page of the service."""
        return cls(
            items=list(page.items),
            total_count=page.total_count,
            limit=page.limit,
            offset=page.offset,
            next_cursor=page.next_cursor,
        )


class CancelledReply(RootModel[Cancelled]):
    """What was stopped: jobs that waited, jobs that ran, and files, items or maps that will not come."""
