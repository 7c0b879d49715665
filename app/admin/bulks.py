"""Bulk jobs over dead letters: prepared from a filter, looked at, begun, watched, steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from flask import request, url_for
from flask.typing import ResponseReturnValue
from flask_admin import expose

from app.admin import frame
from app.admin.letter_list import letter_filter
from app.errors import InvalidInputError, NotFoundError
from app.services.letter_bulks import MOST_LETTERS, Act, BulkOrder

if TYPE_CHECKING:
    from app.container import Services

STEERS = ("start", "pause", "resume", "cancel", "undo")
_SHOWN = 50
_MOST_COUNTED = 100_000  # every few seconds, by an open page
_MOVING = frozenset({"prepared", "running", "paused"})
_FIELD = "filter-"
_PER_SECOND = 50


class BulksView(frame.Page):
    """/admin/dead-letters/bulks."""

    def __init__(self, services: Services) -> None:
        super().__init__(name="Bulk jobs", endpoint="panel_bulks", url="/admin/dead-letters/bulks")
        self._of = services

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        """The newest first."""
        return self.render("panel/bulks.html", **self._bulks())

    def list_part(self) -> str:
        """What moves on the list."""
        return self.render("panel/parts/bulks.html", **self._bulks())

    @expose("/", methods=["POST"])  # type: ignore[untyped-decorator]
    def prepare(self) -> ResponseReturnValue:
        """Freeze the letters that match; nothing is done to them before somebody says so."""
        wanted = letter_filter(_filter_fields())
        found = self._of.letter_bulks.prepare(frame.principal(), wanted, _order())
        return frame.done(url_for("panel_bulks.bulk", bulk_id=found.bulk.bulk_id), leave=True)

    @expose("/<int:bulk_id>")  # type: ignore[untyped-decorator]
    def bulk(self, bulk_id: int) -> str:
        """One bulk job: what it is about to do, or how far it is."""
        return self.render("panel/bulk.html", **self._bulk(bulk_id))

    def part(self, bulk_id: int) -> str:
        """What moves on its page."""
        return self.render("panel/parts/bulk.html", **self._bulk(bulk_id, most_counted=_MOST_COUNTED))

    @expose("/<int:bulk_id>/<act>", methods=["POST"])  # type: ignore[untyped-decorator]
    def steer(self, bulk_id: int, act: str) -> ResponseReturnValue:
        """Start, pause, resume, cancel or undo it."""
        if act not in STEERS:
            raise NotFoundError(f"a bulk job cannot {act}")
        getattr(self._of.letter_bulks, act)(frame.principal(), bulk_id)
        return frame.done(url_for("panel_bulks.bulk", bulk_id=bulk_id))

    def _bulks(self) -> dict[str, Any]:
        number = frame.page_number()
        found = self._of.letter_bulks.list(frame.principal(), limit=_SHOWN, offset=(number - 1) * _SHOWN)
        return {
            "bulks": found.items,
            "page": number,
            "last": frame.pages(found.total_count, _SHOWN),
            "moving": any(one.state == "running" for one in found.items),
        }

    def _bulk(self, bulk_id: int, *, most_counted: int | None = None) -> dict[str, Any]:
        who, bulks = frame.principal(), self._of.letter_bulks
        found = bulks.preview(who, bulk_id, most_counted=most_counted)
        return {
            "preview": found,
            "bulk": found.bulk,
            "problems": bulks.problems(who, bulk_id, limit=_SHOWN),
            "moving": found.bulk.state in _MOVING or bool(found.successors and found.successors.waiting),
        }


def _filter_fields() -> dict[str, str]:
    fields = ((name, value) for name, value in request.form.items() if name.startswith(_FIELD))
    return {name.removeprefix(_FIELD): value for name, value in fields if value.strip()}


def _act(word: str) -> Act:
    if word not in get_args(Act):
        raise InvalidInputError(f"act must be one of {', '.join(get_args(Act))}", field="act")
    return cast("Act", word)


def _order() -> BulkOrder:
    """What the form says; raises InvalidInputError."""
    form = request.form
    try:
        share = form.get("stop_on_failure_percent", "").strip()
        order = BulkOrder(
            act=_act(form.get("act", "")),
            why=form.get("why", ""),
            per_second=float(form.get("per_second") or _PER_SECOND),
            canary=int(form.get("canary") or 0),
            stop_on_failure_share=float(share) / 100 if share else None,
        )
    except ValueError:
        raise InvalidInputError("rate, trial and share must be numbers", field="per_second") from None
    if order.canary > MOST_LETTERS:
        raise InvalidInputError(f"canary must be at most {MOST_LETTERS}", field="canary")
    return order
