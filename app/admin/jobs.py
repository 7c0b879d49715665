"""Jobs: found by id, kind, owner, state and age; one job with its timeline; cancelled or run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from flask import url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Query

from app.admin import frame
from app.admin.reading import Field, Listing, ReadSession, seconds
from app.errors import InvalidInputError
from app.jobs.contracts import CONTRACTS
from app.services.dead_letter_filters import LetterFilter
from app.services.job_filters import QUEUES, STATES, JobFilter, visible_to
from app.storage.postgres.tables import ACTIVE_STATES, Job

if TYPE_CHECKING:
    from app.container import Services

_MOST_LETTERS = 20
_WITHIN = (("3600", "the last hour"), ("86400", "the last day"), ("604800", "the last week"))
_BEFORE = (("3600", "an hour ago"), ("86400", "a day ago"), ("604800", "a week ago"))
_AGES = frozenset({"younger_than", "older_than"})


def _conditions(name: str, value: str) -> list[ColumnElement[bool]]:
    """Of one field of the form; raises InvalidInputError."""
    given: Any = value.strip()
    if name in _AGES:
        try:
            given = seconds(given)
        except ValueError:
            raise InvalidInputError(f"{name} must be a number", field=name) from None
    return JobFilter(**{name: given}).conditions()


def _field(name: str, label: str, words: Any = None) -> Field:
    return Field(Job.state, name, label, _conditions, words)


class JobsView(Listing):
    """/admin/jobs."""

    routes = frozenset({"index_view", "details_view", "export", "cancel", "run_again"})
    list_template = "panel/jobs.html"
    column_list = (
        "state",
        "kind",
        "job_id",
        "owner_id",
        "attempt",
        "created_at",
        "finished_at",
        "error_code",
    )
    column_labels: ClassVar[dict[str, str]] = {
        "job_id": "Job",
        "owner_id": "Owner",
        "attempt": "Attempt",
        "created_at": "Recorded",
        "finished_at": "Ended",
        "error_code": "Error",
    }
    column_sortable_list = ("created_at",)
    column_default_sort: ClassVar[list[tuple[str, bool]]] = [("created_at", True), ("job_id", True)]
    can_export = True
    column_export_list = (
        "job_id", "kind", "state", "owner_id", "queue", "attempt", "worker", "created_at", "started_at",
        "finished_at", "error_code", "error_message",
    )  # fmt: skip

    def __init__(self, services: Services, reading: ReadSession) -> None:
        self._of = services
        self.column_filters = [
            _field("job_id", "Id"),
            _field("state", "State", STATES),
            _field("kind", "Kind", CONTRACTS),
            _field("queue", "Queue", QUEUES),
            _field("younger_than", "Recorded within", _WITHIN),
            _field("older_than", "Recorded before", _BEFORE),
            _field("owner_id", "Owner"),
            _field("worker", "Worker"),
            _field("error_code", "Error code"),
        ]
        super().__init__(Job, reading, name="Jobs", endpoint="panel_jobs", url="/admin/jobs")

    def visible(self, query: Query[Any]) -> Query[Any]:
        """An admin sees everybody's jobs, others their own."""
        return query.filter(visible_to(frame.principal()))

    @expose("/<uuid:job_id>")  # type: ignore[untyped-decorator]
    def details_view(self, job_id: UUID) -> str:
        """One job."""
        return self.render("panel/job.html", **self._job(job_id))

    def part(self, job_id: Any) -> str:
        """What moves on a job's page."""
        return self.render("panel/parts/job.html", **self._job(job_id))

    @expose("/<uuid:job_id>/cancel", methods=["POST"])  # type: ignore[untyped-decorator]
    def cancel(self, job_id: UUID) -> ResponseReturnValue:
        """Stop it."""
        self._of.job_desk.cancel(frame.principal(), job_id)
        return frame.done(url_for("panel_jobs.details_view", job_id=job_id))

    @expose("/<uuid:job_id>/run-again", methods=["POST"])  # type: ignore[untyped-decorator]
    def run_again(self, job_id: UUID) -> ResponseReturnValue:
        """Let it wait again."""
        self._of.job_desk.run_again(frame.principal(), job_id)
        return frame.done(url_for("panel_jobs.details_view", job_id=job_id))

    def _job(self, job_id: UUID) -> dict[str, Any]:
        job = self._of.job_desk.get(frame.principal(), job_id)
        letters = self._of.dead_letters.list(
            frame.principal(), LetterFilter(state=None, job_id=str(job_id)), limit=_MOST_LETTERS
        )
        return {"job": job, "letters": letters.items, "active": job.state in ACTIVE_STATES}
