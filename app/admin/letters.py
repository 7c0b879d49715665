"""Dead letters: groups by cause, one letter with what it holds, and what is done with it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flask import Response, request, url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose

from app.admin import frame, links
from app.admin.attempts import attempts_of
from app.admin.tracebacks import parts_of
from app.errors import ExplorerError, InvalidInputError
from app.security.marks import least_role
from app.security.principal import Role
from app.services.dead_letters import LetterDetail
from app.services.storable import check_storable

if TYPE_CHECKING:
    from app.container import Services

_GROUPS = 50  # of a page
_NOW = "0"
_MINUTES = (15, 60, 24 * 60)


class LettersView(frame.Page):
    """/admin/dead-letters."""

    def __init__(self, services: Services) -> None:
        super().__init__(name="Dead letters", endpoint="panel_letters", url="/admin/dead-letters")
        self._of = services

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        """Groups by cause, those that died last first."""
        return self.render("panel/groups.html", **self._groups())

    def part(self) -> str:
        """What moves on the page of groups."""
        return self.render("panel/parts/groups.html", **self._groups())

    @expose("/<int:dead_letter_id>")  # type: ignore[untyped-decorator]
    def letter(self, dead_letter_id: int) -> str:
        """One letter, secrets masked."""
        return self._letter(dead_letter_id)

    @expose("/<int:dead_letter_id>/reveal", methods=["POST"])  # type: ignore[untyped-decorator]
    @least_role(Role.ADMIN)
    def reveal(self, dead_letter_id: int) -> str:
        """The same with its secrets, which is on record: that is why it is no GET."""
        return self._letter(dead_letter_id, reveal=True)

    @expose("/<int:dead_letter_id>/replay", methods=["POST"])  # type: ignore[untyped-decorator]
    def replay(self, dead_letter_id: int) -> ResponseReturnValue:
        """Send its message again, now or at the moment that the form names."""
        who, why, at = frame.principal(), request.form.get("why", ""), _when()
        if at is None:
            self._of.letter_acts.replay(who, dead_letter_id, why=why)
        else:
            self._of.letter_moves.delay(who, dead_letter_id, at, why=why)
        return _back(dead_letter_id)

    @expose("/<int:dead_letter_id>/reroute", methods=["POST"])  # type: ignore[untyped-decorator]
    def reroute(self, dead_letter_id: int) -> ResponseReturnValue:
        """Let another kind of job, or its own at the right queue, do the work."""
        form = request.form
        to, why = form.get("to", ""), form.get("why", "")
        self._of.letter_moves.reroute(frame.principal(), dead_letter_id, to, why=why)
        return _back(dead_letter_id)

    @expose("/<int:dead_letter_id>/read", methods=["POST"])  # type: ignore[untyped-decorator]
    def read(self, dead_letter_id: int) -> ResponseReturnValue:
        """Somebody who may act has the letter's page open: the page itself says so."""
        self._of.dead_letters.mark_read(frame.principal(), dead_letter_id)
        return Response(status=204)

    @expose("/<int:dead_letter_id>/discard", methods=["POST"])  # type: ignore[untyped-decorator]
    def discard(self, dead_letter_id: int) -> ResponseReturnValue:
        """Put it aside."""
        self._of.letter_acts.discard(frame.principal(), dead_letter_id, why=request.form.get("why", ""))
        return _back(dead_letter_id)

    @expose("/<int:dead_letter_id>/undo", methods=["POST"])  # type: ignore[untyped-decorator]
    def undo(self, dead_letter_id: int) -> ResponseReturnValue:
        """Take a discard back."""
        self._of.letter_acts.undo(frame.principal(), dead_letter_id)
        return _back(dead_letter_id)

    @expose("/<int:dead_letter_id>/edit")  # type: ignore[untyped-decorator]
    def edit(self, dead_letter_id: int) -> str:
        """The arguments of its job, to be changed."""
        detail = self._of.dead_letters.get(frame.principal(), dead_letter_id)
        text = json.dumps(detail.letter.arguments, indent=2, ensure_ascii=False)
        return self.render("panel/edit.html", letter=detail.letter, text=text, why="", changes=None)

    @expose("/<int:dead_letter_id>/edit", methods=["POST"])  # type: ignore[untyped-decorator]
    def edited(self, dead_letter_id: int) -> ResponseReturnValue:
        """Show what would change, or with `do=replay`, do it. What is refused is told beside the field."""
        who, form = frame.principal(), request.form
        text, why = form.get("arguments", ""), form.get("why", "")
        try:
            arguments = _arguments(text)
            if form.get("do") == "replay":
                self._of.letter_acts.edit_and_replay(who, dead_letter_id, arguments, why=why)
                return _back(dead_letter_id)
            found = self._of.letter_acts.check_edit(who, dead_letter_id, arguments)
        except ExplorerError as error:
            letter = self._of.dead_letters.get(who, dead_letter_id).letter
            page = self.render(
                "panel/edit.html", letter=letter, text=text, why=why, changes=None, refused=error
            )
            return page, error.http_status
        return self.render("panel/edit.html", letter=found.letter, text=text, why=why, changes=found.changes)

    def _groups(self) -> dict[str, Any]:
        every, number = "all" in request.args, frame.page_number()
        window = {"limit": _GROUPS, "offset": (number - 1) * _GROUPS}
        found = self._of.dead_letters.groups(frame.principal(), **window, only_open=not every)
        last = frame.pages(found.total_count, _GROUPS)
        return {"groups": found, "every": every, "page": number, "last": last}

    def _letter(self, dead_letter_id: int, *, reveal: bool = False) -> str:
        who = frame.principal()
        detail = self._of.dead_letters.get(who, dead_letter_id, reveal=reveal)
        destinations = self._of.letter_moves.destinations(who, dead_letter_id)
        shown = {"detail": detail, "destinations": destinations, "minutes": _MINUTES}
        return self.render("panel/letter.html", **shown, **_told(detail), **_acts(detail))


def _told(detail: LetterDetail) -> dict[str, Any]:
    """What the page says of a letter in its own words."""
    content = detail.content
    return {
        "about": links.about(detail),
        "runbook": links.runbook(detail),
        "attempts": attempts_of(content.attempts) if content else (),
        "trace_parts": parts_of(content.trace) if content else (),
    }


def _acts(detail: LetterDetail) -> dict[str, bool]:
    """Which buttons there are."""
    letter, acts = detail.letter, frame.may("operator")
    return {
        "can_replay": acts and letter.state == "open",
        "unread": acts and letter.state == "open" and letter.read_at is None,
        "can_edit": acts and letter.state == "open" and letter.arguments is not None,
        "can_undo": acts and letter.state == "discarded" and letter.undo_until is not None,
        "can_reveal": frame.may("admin") and detail.content is not None and detail.content.masked,
    }


def _when() -> datetime | None:
    """When the form asks for a replay; None for now. Raises InvalidInputError."""
    minutes, until = request.form.get("minutes", _NOW), request.form.get("until")
    return None if minutes == _NOW else frame.moment(minutes, until)


def _arguments(text: str) -> dict[str, Any]:
    """What was typed; raises InvalidInputError."""
    try:
        found = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise InvalidInputError(f"the arguments are not valid JSON: {error}", field="arguments") from None
    check_storable(found, "arguments")
    if not isinstance(found, dict):
        raise InvalidInputError("the arguments must be a JSON object", field="arguments")
    return found


def _back(dead_letter_id: int) -> ResponseReturnValue:
    return frame.done(url_for("panel_letters.letter", dead_letter_id=dead_letter_id), leave=True)
