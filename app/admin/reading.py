"""What Flask-Admin reads through: one session a request, in which Postgres lets nothing be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from flask import g, request
from flask_admin import expose
from flask_admin.contrib.sqla import ModelView
from flask_admin.contrib.sqla.filters import BaseSQLAFilter
from flask_admin.form import BaseForm
from sqlalchemy import ColumnElement, Engine, func, literal, tuple_
from sqlalchemy.orm import Query, Session

from app.admin import frame
from app.errors import InvalidInputError, NotFoundError
from app.services.storable import is_storable
from app.storage.postgres.session import Database

Narrow = Callable[[str, str], Sequence[ColumnElement[bool]]]
_LONGEST_SECONDS = 1e9
_LAST_PAGE = 1_000_000
_EXPORTED_AT_ONCE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ReadSession:
    """Opens at the first query of a request; `close` ends it with the request."""

    session = None  # by this name Flask-Admin knows what hands out sessions

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def current(self) -> Session:
        """The session of this request."""
        if "panel_session" not in g:
            g.panel_session = Session(_read_only(self._database().engine))
        found: Session = g.panel_session
        return found

    def close(self, _error: BaseException | None = None) -> None:
        """Give the connection back."""
        if "panel_session" in g:
            g.pop("panel_session").close()


def _read_only(engine: Engine) -> Engine:
    read_only: Engine = engine.execution_options(postgresql_readonly=True)
    return read_only


def seconds(text: str) -> float:
    """An age that was typed; raises ValueError for what is none."""
    found = float(text)
    if not 0 <= found <= _LONGEST_SECONDS:
        raise ValueError(text)
    return found


class Field(BaseSQLAFilter):  # type: ignore[misc]
    """One field of a filter of the services, as Flask-Admin has filters.

    `narrow` gives the conditions of a field's name and what was typed, or raises InvalidInputError. `words`
    are what can be chosen, or pairs of that and what it is called.
    """

    def __init__(self, column: Any, key: str, name: str, narrow: Narrow, words: Any = None) -> None:
        pairs = [one if isinstance(one, tuple) else (one, one) for one in words] if words else None
        super().__init__(column, name, options=pairs)
        self.key, self._narrow = key, narrow

    def operation(self) -> str:
        """As the form says it: the name alone."""
        return ""

    def validate(self, value: str) -> bool:
        """Whether any row can have it."""
        if not is_storable(value):
            return False
        try:
            self._narrow(self.key, value)
        except InvalidInputError:
            return False
        return True

    def apply(self, query: Any, value: str, alias: Any = None) -> Any:  # noqa: ARG002 Flask-Admin gives it
        """Narrow the query."""
        return query.filter(*self._narrow(self.key, value))


class Listing(frame.Page, ModelView):  # type: ignore[misc]
    """A table with filters, sorting and pages, never counted as a whole; what can be no filter is skipped."""

    can_create = can_edit = can_delete = False
    simple_list_pager = True
    named_filter_urls = True
    form = BaseForm
    page_size = 50
    list_template = "panel/list.html"

    def __init__(self, model: type, reading: ReadSession, **named: Any) -> None:
        self._reading = reading
        super().__init__(model, reading, **named)

    def get_query(self) -> Query[Any]:
        """All rows that who asks may see."""
        return self.visible(self._reading.current().query(self.model))

    def get_count_query(self) -> Query[Any]:
        """As Flask-Admin wants it; nothing here asks for it."""
        return self.visible(self._reading.current().query(func.count()).select_from(self.model))

    def visible(self, query: Query[Any]) -> Query[Any]:
        """Narrow a query to what who asks may see."""
        raise NotImplementedError

    def get_export_value(self, model: Any, name: Any) -> Any:
        """A cell of the export; what a spreadsheet would take for a formula is marked as text."""
        value = super().get_export_value(model, name)
        return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

    def get_filter_arg(self, index: int, flt: Any) -> str:  # noqa: ARG002 Flask-Admin gives both
        """The filter's name in the address: that of its column."""
        return str(getattr(flt, "key", None) or flt.column.key)

    def _get_list_extra_args(self) -> Any:
        """What the address says beside the filters; raises InvalidInputError for no page's number."""
        found = super()._get_list_extra_args()
        if not 0 <= found.page <= _LAST_PAGE:
            raise InvalidInputError(f"page must be a number from 0 to {_LAST_PAGE}", field="page")
        return found

    @expose("/export/<export_type>/")  # type: ignore[untyped-decorator]
    def export(self, export_type: str) -> Any:
        """All rows that match as CSV, the newest first; raises NotFoundError for other formats."""
        if export_type not in self.export_types:
            raise NotFoundError(f"there is no export as {export_type}, but as CSV")
        return super().export(export_type)

    def _export_data(self) -> tuple[int, Iterator[Any]]:
        """What Flask-Admin writes into the file; read here a little at a time, however much it is."""
        rows = self._rows()
        first = list(islice(rows, 1))  # what fails at once is told before the answer begins
        return 0, chain(first, rows)

    def _rows(self) -> Iterator[Any]:
        """All rows that match, the newest first; a slow reader holds no connection meanwhile."""
        session, filters = self._reading.current(), self._get_list_extra_args().filters
        _, query = self.get_list(0, None, None, None, filters, execute=False, page_size=0)
        keys = [getattr(self.model, name) for name, _ in self.column_default_sort]
        rest = query
        while part := rest.limit(_EXPORTED_AT_ONCE).all():
            session.close()
            yield from part
            last = tuple_(*(literal(getattr(part[-1], key.key), key.type) for key in keys))
            rest = query.filter(tuple_(*keys) < last)
        session.close()

    def _get_list_filter_args(self) -> list[Any]:
        """What the address says, in the order of the filters; empty fields of the form say nothing."""
        found = []
        for argument, value in self._given():
            index, one = self._filter_args[argument]
            if value.strip() and one.validate(value):
                found.append((index, str(one.name), value.strip()))
        return sorted(found)

    def render(self, template: str, **values: Any) -> str:
        """With what was typed and can be no filter, to be told."""
        skipped = [
            (self._filter_args[argument][1].name, value)
            for argument, value in self._given()
            if value.strip() and not self._filter_args[argument][1].validate(value)
        ]
        return super().render(template, skipped=skipped, **values)

    def _given(self) -> list[tuple[str, str]]:
        pairs = ((name.partition("_")[2], value) for name, value in request.args.items())
        return [(argument, value) for argument, value in pairs if argument in self._filter_args]
