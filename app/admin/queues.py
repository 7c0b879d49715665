"""Queues and workers: depth, age and rates, who runs what, pauses, schedules, drift of the configuration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import request, url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose

from app.admin import frame
from app.errors import UnavailableError
from app.security.marks import least_role
from app.security.principal import Role
from app.services.queues import LONGEST_PAUSE, LONGEST_REASON

if TYPE_CHECKING:
    from app.container import Services

_MINUTES = (15, 60, 4 * 60, 24 * 60)


class QueuesView(frame.Page):
    """/admin/queues."""

    def __init__(self, services: Services) -> None:
        super().__init__(name="Queues", endpoint="panel_queues", url="/admin/queues")
        self._of = services

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        """The page."""
        return self.render(
            "panel/queues.html",
            **self._board(),
            configuration=self._or_away(self._of.queues.configuration),
            schedules=self._or_away(self._of.queues.schedules),
            minutes=_MINUTES,
            most_days=LONGEST_PAUSE.days,
            most_letters=LONGEST_REASON,
        )

    def part(self) -> str:
        """What moves on the page. A server that is away is told in it: its reader must not go blank."""
        return self.render("panel/parts/queues.html", **self._board())

    @expose("/<queue>/pause", methods=["POST"])  # type: ignore[untyped-decorator]
    @least_role(Role.ADMIN)
    def pause(self, queue: str) -> ResponseReturnValue:
        """Pause a queue, for `minutes` or `until`, with a `reason`."""
        form = request.form
        until = frame.moment(form.get("minutes"), form.get("until"))
        self._of.queues.pause(frame.principal(), queue, until, form.get("reason", ""))
        return frame.done(url_for("panel_queues.index"))

    @expose("/<queue>/resume", methods=["POST"])  # type: ignore[untyped-decorator]
    @least_role(Role.ADMIN)
    def resume(self, queue: str) -> ResponseReturnValue:
        """End a pause."""
        self._of.queues.resume(frame.principal(), queue)
        return frame.done(url_for("panel_queues.index"))

    def _board(self) -> dict[str, Any]:
        board = self._or_away(lambda: self._of.queues.board(frame.principal()))
        away = board if isinstance(board, UnavailableError) else None
        return {"board": None if away else board, "away": away, "now": datetime.now(UTC)}

    def _or_away(self, look: Any) -> Any:
        try:
            return look()
        except UnavailableError as error:
            return error
