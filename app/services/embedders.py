"""Embedders: configured providers and models. Keys go in sealed and come out only towards the provider."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypedDict, cast

from sqlalchemy import Select, bindparam, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import ConflictError, ExplorerError
from app.pipeline.embedding import registry
from app.pipeline.embedding.base import Embedder, EmbedderSpec
from app.pipeline.providers import find
from app.security.crypto import SecretBox
from app.security.principal import Principal
from app.services import provider_rows
from app.services.described import check_search
from app.services.paging import Page, check_window
from app.services.views import columns_of, view
from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.queries.listing import PATTERN, Listing, mentioning, pattern
from app.storage.postgres.queries.owned import owned, readable
from app.storage.postgres.session import Database
from app.storage.postgres.tables import CollectionTransform, EmbeddedDataset, EmbedderRow

TruncateStrategy = Literal["split", "truncate", "error"]

_TEST_TEXT = "The quick brown fox jumps over the lazy dog."
# A change of these makes other vectors, or vectors of other parts of a text: the stored ones, which are never
# made again for it, would no longer compare with new ones and with a query's. So do the cuts of chunking: its
# configuration names the embedder alone, and would be the same while files are cut otherwise.
_SHAPES_VECTORS = (
    "provider",
    "base_url",
    "model",
    "dimensions",
    "config",
    "max_input_tokens",
    "truncate_strategy",
)
_WAY_OUT = (
    "make another embedder for that and name it in the transform; "
    "name, api_key, batch_size and is_public can be changed here"
)


@dataclass(frozen=True, slots=True)
class EmbedderView:
    """An embedder without its key."""

    embedder_id: int
    name: str
    owner_id: str
    provider: str
    base_url: str | None
    model: str
    has_api_key: bool
    config: dict[str, Any]
    batch_size: int
    dimensions: int
    max_input_tokens: int
    truncate_strategy: str
    is_public: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EmbedderTest:
    """What a provider answered to one text."""

    success: bool
    message: str
    dimensions: int | None


class EmbedderFields(TypedDict, total=False):
    """What a client may say of an embedder; what is missing is the provider's default, or left as it is.

    `api_key` None or empty removes the key.
    """

    name: str
    provider: str
    base_url: str | None
    model: str
    api_key: str | None
    config: Mapping[str, Any]
    batch_size: int
    dimensions: int
    max_input_tokens: int
    truncate_strategy: TruncateStrategy
    is_public: bool


@dataclass(slots=True)
class _Clients:
    """Open clients by embedder, as of its last change."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_id: dict[int, tuple[datetime, Embedder]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embedders:
    """Verbs on embedders.

    `build` opens a client (registry.build bound to the HTTP client and caches); `check_url` refuses
    addresses that providers may not have.
    """

    database: Database
    secrets: SecretBox
    build: Callable[[EmbedderSpec], Embedder]
    check_url: Callable[[str], None]
    _clients: _Clients = field(default_factory=_Clients)

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
    ) -> Page[EmbedderView]:
        """The owner's embedders by name; `search` looks in name, provider and model."""
        check_window(limit, offset)
        term = check_search(search)
        values = {"owner_id": principal.owner_id, PATTERN: pattern(term or "")}
        with self.database.reading() as connection:
            rows, total, following = _listing(searched=bool(term)).page(
                connection, values, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def public(self, *, limit: int = 50, offset: int = 0, cursor: str | None = None) -> Page[EmbedderView]:
        """Everybody's public embedders, newest first, without their keys."""
        check_window(limit, offset)
        with self.database.reading() as connection:
            rows, total, following = _PUBLIC.page(connection, {}, limit=limit, offset=offset, cursor=cursor)
        return Page(rows, total, limit, offset, following)

    def get(self, principal: Principal, embedder_id: int) -> EmbedderView:
        """One embedder of the owner's, or a public one; raises NotFoundError."""
        with self.database.transaction() as session:
            return _view(readable(session, EmbedderRow, embedder_id, principal.owner_id))

    def create(self, principal: Principal, fields: EmbedderFields) -> EmbedderView:
        """Make an embedder; raises InvalidInputError that names the field and the rule."""
        complete = _with_defaults(fields)
        row = EmbedderRow(owner_id=principal.owner_id, api_key_sealed=None)
        self._apply(row, complete)
        with self.database.transaction() as session:
            session.add(row)
            session.flush()
            provider_rows.seal(row, complete.get("api_key"), self.secrets)
            session.flush()
            session.refresh(row)
            return _view(row)

    def update(self, principal: Principal, embedder_id: int, fields: EmbedderFields) -> EmbedderView:
        """Change what `fields` names.

        Raises NotFoundError, InvalidInputError, and ConflictError for a change of what shapes vectors (all
        but name, api_key, batch_size and is_public) while an embedded dataset, or chunking, uses it.
        """
        with self.database.transaction() as session:
            row = owned(session, EmbedderRow, embedder_id, principal.owner_id, lock=True)
            before = _shape(row)
            self._apply(row, cast("EmbedderFields", provider_rows.with_model(fields)))
            changed = [name for name, value in _shape(row).items() if before[name] != value]
            if changed:
                rule = f"{', '.join(changed)} must stay, for vectors of two kinds cannot be compared"
                _refuse_in_use(session, embedder_id, f"{rule}; {_WAY_OUT}", field=changed[0])
            if "api_key" in fields:
                provider_rows.seal(row, fields["api_key"], self.secrets)
            session.flush()
            session.refresh(row)
            return _view(row)

    def delete(self, principal: Principal, embedder_id: int) -> None:
        """Delete it; raises NotFoundError, and ConflictError while anything uses it."""
        try:
            with self.database.transaction() as session:
                row = owned(session, EmbedderRow, embedder_id, principal.owner_id, lock=True)
                _refuse_in_use(session, embedder_id, "it cannot be deleted")
                session.delete(row)
        except IntegrityError:  # taken into use between the look and the deletion
            raise ConflictError("an embedded dataset uses the embedder: it cannot be deleted") from None
        with self._clients.lock:
            self._clients.by_id.pop(embedder_id, None)

    def test(self, principal: Principal, embedder_id: int) -> EmbedderTest:
        """Embed one text; what fails is the answer, not an error. Raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, EmbedderRow, embedder_id, principal.owner_id)
        try:
            vectors = self._open(row).embed([_TEST_TEXT], purpose="query").vectors
        except ExplorerError as error:
            return EmbedderTest(success=False, message=error.message, dimensions=None)
        dimensions = int(vectors.shape[1])
        message = f"{row.provider} answered with {dimensions} dimensions"
        return EmbedderTest(success=True, message=message, dimensions=dimensions)

    def client(self, owner_id: str, embedder_id: int) -> Embedder:
        """The client of an owner's embedder, kept open until the embedder changes.

        Raises NotFoundError, InvalidInputError.
        """
        with self.database.transaction() as session:
            row = owned(session, EmbedderRow, embedder_id, owner_id)
        with self._clients.lock:
            known = self._clients.by_id.get(embedder_id)
            if known is None or known[0] != row.updated_at:
                known = self._clients.by_id[embedder_id] = (row.updated_at, self._open(row))
            return known[1]

    def _apply(self, row: EmbedderRow, fields: EmbedderFields) -> None:
        provider_rows.apply(row, fields, self.check_url)
        registry.validate(_spec(row, api_key=None))
        provider_rows.refuse_address(row, taken=registry.PROVIDERS[row.provider].takes_base_url)

    def _open(self, row: EmbedderRow) -> Embedder:
        return self.build(_spec(row, api_key=provider_rows.unseal(row, self.secrets)))


def _with_defaults(fields: EmbedderFields) -> EmbedderFields:
    name = fields.get("provider", "local")
    provider = find(registry.PROVIDERS, name)
    defaults: EmbedderFields = {
        "name": provider.title,
        "provider": name,
        "base_url": provider.default_base_url,
        "model": provider.default_model,
        "config": {},
        "batch_size": provider.default_batch_size,
        "dimensions": provider.default_dimensions,
        "max_input_tokens": provider.default_max_input_tokens,
        "truncate_strategy": "split",
        "is_public": False,
    }
    complete = provider_rows.completed(fields, defaults, needs_api_key=provider.needs_api_key)
    return cast("EmbedderFields", complete)


def _spec(row: EmbedderRow, *, api_key: str | None) -> EmbedderSpec:
    spec = EmbedderSpec(
        provider=row.provider,
        model=row.model,
        dimensions=row.dimensions,
        base_url=row.base_url,
        api_key=api_key,
        batch_size=row.batch_size,
        max_input_tokens=row.max_input_tokens,
        config=dict(row.config),
    )
    return replace(spec, truncate_strategy=cast("TruncateStrategy", row.truncate_strategy))


def _shape(row: EmbedderRow) -> dict[str, Any]:
    """What its vectors depend on; a setting that was left out is the provider's default."""
    settings = registry.PROVIDERS[row.provider].settings
    defaults = {name: setting.default for name, setting in settings.items()}
    return {name: getattr(row, name) for name in _SHAPES_VECTORS} | {"config": defaults | row.config}


def _refuse_in_use(session: Session, embedder_id: int, consequence: str, *, field: str | None = None) -> None:
    if session.scalar(select(exists().where(EmbeddedDataset.embedder_id == embedder_id))):
        raise ConflictError(f"an embedded dataset uses the embedder: {consequence}", field=field)
    named = CollectionTransform.job_config["chunking"]["semantic"]["embedder_id"].as_integer()
    if session.scalar(select(exists().where(named == embedder_id))):
        raise ConflictError(
            f"the chunking of a collection transform uses the embedder: {consequence}", field=field
        )


def _view(row: EmbedderRow) -> EmbedderView:
    return view(
        EmbedderView,
        row,
        has_api_key=row.api_key_sealed is not None,
        config={**row.config, "model": row.model},
    )


def _listed(*values: Any) -> EmbedderView:
    """From columns as `_listing` selects them."""
    found = EmbedderView(*values)
    return replace(found, config={**found.config, "model": found.model})


def _selected() -> Select[Any]:
    has_key = EmbedderRow.api_key_sealed.is_not(None)
    return select(*columns_of(EmbedderView, EmbedderRow, has_api_key=has_key))


_PUBLIC = Listing(
    _listed,
    _selected().where(EmbedderRow.is_public),
    (
        Key("created_at", EmbedderRow.created_at, descending=True),
        Key("embedder_id", EmbedderRow.embedder_id, descending=True),
    ),
)


@cache
def _listing(*, searched: bool) -> Listing[EmbedderView]:
    statement = _selected().where(EmbedderRow.owner_id == bindparam("owner_id"))
    if searched:
        statement = statement.where(mentioning(EmbedderRow.name, EmbedderRow.provider, EmbedderRow.model))
    order = (Key("name", EmbedderRow.name), Key("embedder_id", EmbedderRow.embedder_id))
    return Listing(_listed, statement, order)
