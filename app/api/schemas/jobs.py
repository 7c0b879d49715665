"""Jobs on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import KeyedWindow, PageReply
from app.services.cancelling import Cancelled
from app.services.job_desk import JobDetail
from app.services.job_filters import OLDEST_SECONDS, JobFilter, JobState, ScopeKind
from app.services.jobs import JobView


class JobPath(BaseModel):
    """Names a job."""

    job_id: str


class JobQuery(KeyedWindow):
    """Which jobs; ages are in seconds since a job was recorded.

    `scope_id` is the id of the transform or embedded dataset that `scope_kind` names.
    """

    job_id: str | None = Field(None, max_length=64)
    state: JobState | None = None
    kind: str | None = Field(None, max_length=200)
    queue: str | None = Field(None, max_length=200)
    owner_id: str | None = Field(None, max_length=500)
    error_code: str | None = Field(None, max_length=200)
    worker: str | None = Field(None, max_length=500)
    scope_kind: ScopeKind | None = None
    scope_id: int | None = Field(None, ge=0, lt=2**31)
    younger_than: float | None = Field(None, ge=0, le=OLDEST_SECONDS)
    older_than: float | None = Field(None, ge=0, le=OLDEST_SECONDS)

    def filter(self) -> JobFilter:
        """The same for the service."""
        return JobFilter(**self.model_dump(exclude=set(KeyedWindow.model_fields)))


class JobReply(RootModel[JobDetail]):
    """One job with its timeline; `can_cancel` and `can_run_again` say what whoever asks may do with it."""


class JobList(PageReply):
    """A page of jobs, newest first."""

    items: list[JobView]


class CancelledReply(RootModel[Cancelled]):
    """What was stopped: jobs that waited, jobs that ran, and files, items or maps that will not come."""
