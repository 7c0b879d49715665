"""The panel's front door, and the parts of its pages that renew themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import redirect, url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose

from app.admin.frame import Page

if TYPE_CHECKING:
    from app.admin.bulks import BulksView
    from app.admin.jobs import JobsView
    from app.admin.letters import LettersView
    from app.admin.queues import QueuesView


class Home(Page):
    """/admin: leads on to the first page."""

    def __init__(self, first: str) -> None:
        super().__init__(name="Operations", endpoint="admin", url="/admin")
        self._first = first

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> ResponseReturnValue:
        """Go to the page that one looks at first."""
        return redirect(url_for(self._first))

    def is_visible(self) -> bool:
        """The menu names the pages themselves."""
        return False


class Parts(Page):
    """/admin/parts: addresses that an open page asks again and again, which is nobody at work (who.py)."""

    def __init__(self, queues: QueuesView, jobs: JobsView, letters: LettersView, bulks: BulksView) -> None:
        super().__init__(name="Parts", endpoint="panel_parts", url="/admin/parts")
        self._queues, self._jobs, self._letters, self._bulks = queues, jobs, letters, bulks

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> ResponseReturnValue:
        """Flask-Admin wants one."""
        return redirect(url_for("admin.index"))

    @expose("/queues")  # type: ignore[untyped-decorator]
    def queues(self) -> str:
        """The live part of the queues' page."""
        return self._queues.part()

    @expose("/jobs/<uuid:job_id>")  # type: ignore[untyped-decorator]
    def job(self, job_id: object) -> str:
        """The live part of a job's page."""
        return self._jobs.part(job_id)

    @expose("/dead-letters")  # type: ignore[untyped-decorator]
    def groups(self) -> str:
        """The live part of the page of groups."""
        return self._letters.part()

    @expose("/bulks")  # type: ignore[untyped-decorator]
    def bulks(self) -> str:
        """The live part of the list of bulk jobs."""
        return self._bulks.list_part()

    @expose("/bulks/<int:bulk_id>")  # type: ignore[untyped-decorator]
    def bulk(self, bulk_id: int) -> str:
        """The live part of a bulk job's page."""
        return self._bulks.part(bulk_id)

    def is_visible(self) -> bool:
        """It is no page."""
        return False
