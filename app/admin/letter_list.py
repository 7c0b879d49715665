"""Dead letters one by one: the list with its filters, which are those of the API and of bulk jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

from flask import request
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Query

from app.admin import frame
from app.admin.reading import Field, Listing, ReadSession, seconds
from app.errors import InvalidInputError
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import POOLS
from app.services.dead_letter_filters import LetterFilter, visible_to
from app.services.letter_search import settled
from app.storage.postgres.tables import DeadLetterRow
from app.storage.postgres.tables.dead_letters import LETTER_REASONS, LETTER_STATES

_AGES = (("3600", "the last hour"), ("86400", "the last day"), ("604800", "the last week"))
_LONG_AGO = (
    ("3600", "an hour ago"),
    ("86400", "a day ago"),
    ("604800", "a week ago"),
    ("2160000", "25 days ago"),
)
_NUMBERS: dict[str, Callable[[str], float]] = {
    "attempts": int,
    "younger_than": seconds,
    "older_than": seconds,
    "bulk_id": int,
}
_KNOWN = {field.name for field in fields(LetterFilter)}


def letter_filter(given: dict[str, str]) -> LetterFilter:
    """The filter of the fields that hold something; raises InvalidInputError."""
    values: dict[str, Any] = {"state": None}
    for name, value in given.items():
        if name not in _KNOWN:
            raise InvalidInputError(f"{name} is no field of a filter of letters", field=name)
        try:
            values[name] = _NUMBERS.get(name, str)(value.strip())
        except ValueError:
            raise InvalidInputError(f"{name} must be a number", field=name) from None
    wanted = LetterFilter(**values)
    wanted.check()
    return wanted


def _conditions(key: str, value: str) -> list[ColumnElement[bool]]:
    return letter_filter({key: value}).conditions()


class _Field(Field):
    """One field of a LetterFilter."""

    def __init__(self, key: str, label: str, words: Any = None) -> None:
        super().__init__(DeadLetterRow.state, key, label, _conditions, words)

    def apply(self, query: Any, value: str, alias: Any = None) -> Any:
        """Narrow the query; a search is looked up first."""
        if self.key == "search":
            return query.filter(settled(query.session, visible_to(frame.principal()), value))
        return super().apply(query, value, alias)


class LetterList(Listing):
    """/admin/dead-letters/list."""

    routes = frozenset({"index_view", "export"})
    under = "/admin/dead-letters/"
    list_template = "panel/letters.html"
    column_list = ("state", "cause", "actor", "document", "owner_id", "attempts", "died_at", "expires_at")
    column_labels: ClassVar[dict[str, str]] = {
        "cause": "Why it died",
        "actor": "Kind",
        "document": "Document",
        "owner_id": "Owner",
        "died_at": "Died",
        "expires_at": "Expires in",
    }
    # As there are indexes: what is alike comes in the order of death, and pages do not overlap.
    column_sortable_list = (
        ("died_at", ("died_at", "dead_letter_id")),
        *((name, (name, "died_at", "dead_letter_id")) for name in ("actor", "owner_id", "attempts")),
    )
    column_default_sort: ClassVar[list[tuple[str, bool]]] = [("died_at", True), ("dead_letter_id", True)]
    can_export = True
    column_export_list = (
        "dead_letter_id", "state", "reason", "error_class", "cause", "document", "fingerprint", "actor",
        "queue", "pool", "owner_id", "job_id", "message_id", "attempts", "worker", "trace_id", "died_at",
        "expires_at", "ended_at", "ended_by", "ended_why",
    )  # fmt: skip

    def __init__(self, reading: ReadSession) -> None:
        self.column_filters = [
            _Field("search", "Search"),
            _Field("state", "State", LETTER_STATES),
            _Field("reason", "Reason", LETTER_REASONS),
            _Field("actor", "Kind", CONTRACTS),
            _Field("pool", "Pool", POOLS),
            _Field("queue", "Queue", [pool.queue for pool in POOLS.values()]),
            _Field("younger_than", "Died within", _AGES),
            _Field("older_than", "Died more than", _LONG_AGO),
            _Field("fingerprint", "Cause (fingerprint)"),
            _Field("owner_id", "Owner"),
            _Field("job_id", "Job"),
            _Field("attempts", "Attempts, at least"),
            _Field("worker", "Worker"),
            _Field("trace_id", "Trace"),
            _Field("argument", "Argument, e.g. file_id=7"),
            _Field("bulk_id", "Bulk job that ended it"),
        ]
        super().__init__(
            DeadLetterRow,
            reading,
            name="Letters",
            endpoint="panel_letter_list",
            url="/admin/dead-letters/list",
        )

    def is_visible(self) -> bool:
        """The menu leads to the groups first."""
        return False

    def visible(self, query: Query[Any]) -> Query[Any]:
        """An admin sees everybody's letters, others those of their own jobs."""
        return query.filter(visible_to(frame.principal()))

    def _given(self) -> list[tuple[str, str]]:
        """Open ones, unless the address speaks of states."""
        pairs = super()._given()
        return pairs if any(name == "state" for name, _ in pairs) else [("state", "open"), *pairs]

    def render(self, template: str, **values: Any) -> str:
        """As bulk jobs take it, the filter comes with the page."""
        given = {name: value for name, value in self._given() if value.strip()}
        found = {one.partition("_")[2] for one in request.args if one.startswith("flt")}
        return super().render(template, given_fields=given, narrowed=bool(found), **values)
