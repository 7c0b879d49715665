"""Jobs: found by id, kind, owner and state; one job with its timeline; cancelled or run again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from flask import url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose
from flask_admin.contrib.sqla.filters import FilterEqual
from sqlalchemy.orm import Query

from app.admin import frame
from app.admin.reading import Listing, ReadSession
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import POOLS
from app.services.cancelling import is_cancellable
from app.services.dead_letter_filters import LetterFilter
from app.services.job_desk import sees_all
from app.services.job_story import story
from app.storage.postgres.tables import ACTIVE_STATES, FINAL_STATES, Job

if TYPE_CHECKING:
    from app.container import Services

_MOST_LETTERS = 20


class _ById(FilterEqual):  # type: ignore[misc]
    """An id, whole."""

    def clean(self, value: str) -> UUID:
        """Raises ValueError for what is no id."""
        return UUID(value.strip())


def _choice(column: Any, name: str, words: Any) -> FilterEqual:
    return FilterEqual(column, name, options=[(word, word) for word in words])


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
    can_export, export_max_rows = True, 10_000
    column_export_list = (
        "job_id", "kind", "state", "owner_id", "queue", "attempt", "worker", "created_at", "started_at",
        "finished_at", "error_code", "error_message",
    )  # fmt: skip

    def __init__(self, services: Services, reading: ReadSession) -> None:
        self._of = services
        self.column_filters = [
            _ById(Job.job_id, "Id"),
            _choice(Job.state, "State", (*ACTIVE_STATES, *FINAL_STATES)),
            _choice(Job.kind, "Kind", CONTRACTS),
            _choice(Job.queue, "Queue", [pool.queue for pool in POOLS.values()]),
            FilterEqual(Job.owner_id, "Owner"),
            FilterEqual(Job.error_code, "Error code"),
        ]
        super().__init__(Job, reading, name="Jobs", endpoint="panel_jobs", url="/admin/jobs")

    def visible(self, query: Query[Any]) -> Query[Any]:
        """An admin sees everybody's jobs, others their own."""
        who = frame.principal()
        return query if sees_all(who) else query.filter(Job.owner_id == who.owner_id)

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
        job = self._of.job_desk.find(frame.principal(), job_id)
        active = job.state in ACTIVE_STATES
        acts = frame.may("operator")
        letters = self._of.dead_letters.list(
            frame.principal(), LetterFilter(state=None, job_id=str(job_id)), limit=_MOST_LETTERS
        )
        return {
            "job": job,
            "letters": letters.items,
            "active": active,
            "story": story(job, datetime.now(UTC)),
            "can_cancel": acts and active and is_cancellable(job.kind) and job.owner_id is not None,
            "can_run_again": acts and job.state == "dead",
        }
