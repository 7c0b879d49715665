"""LLMs: configured providers and language models. Keys are sealed and come out only towards the provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from app.errors import ConflictError, ExplorerError, InvalidInputError
from app.pipeline.generation import registry
from app.pipeline.generation.base import ChatModel, LanguageModelSpec
from app.pipeline.providers import find
from app.pipeline.reranking import Reranker
from app.security.crypto import SecretBox
from app.security.principal import Principal
from app.services import provider_rows
from app.services.described import check_search
from app.services.paging import Page, check_window
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned, readable
from app.storage.postgres.queries.pages import mentions
from app.storage.postgres.session import Database
from app.storage.postgres.tables import LlmRow, VisualizationTransform

_TEST_TOKENS = 20
_BY_NAME = (Key("name", LlmRow.name), Key("llm_id", LlmRow.llm_id))
_NEWEST_FIRST = (
    Key("created_at", LlmRow.created_at, descending=True),
    Key("llm_id", LlmRow.llm_id, descending=True),
)


@dataclass(frozen=True, slots=True)
class LlmView:
    """An LLM without its key."""

    llm_id: int
    name: str
    owner_id: str
    provider: str
    base_url: str | None
    model: str
    has_api_key: bool
    config: dict[str, Any]
    is_public: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LlmTest:
    """What a provider answered to one question."""

    success: bool
    message: str


class LlmFields(TypedDict, total=False):
    """What a client may say of an LLM; what is missing is the provider's default, or left as it is.

    `api_key` None or empty removes the key.
    """

    name: str
    provider: str
    base_url: str | None
    model: str
    api_key: str | None
    config: Mapping[str, Any]
    is_public: bool


@dataclass(frozen=True, slots=True)
class Llms:
    """Verbs on LLMs.

    `build` and `build_reranker` open clients, bound to the HTTP client; `check_url` refuses addresses that
    providers may not have.
    """

    database: Database
    secrets: SecretBox
    build: Callable[[LanguageModelSpec], ChatModel]
    check_url: Callable[[str], None]
    build_reranker: Callable[[str, str, str | None], Reranker]

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
    ) -> Page[LlmView]:
        """The owner's LLMs by name; `search` looks in name, provider and model."""
        check_window(limit, offset)
        statement = select(LlmRow).where(LlmRow.owner_id == principal.owner_id)
        if term := check_search(search):
            statement = statement.where(mentions(term, LlmRow.name, LlmRow.provider, LlmRow.model))
        return self._page(statement, _BY_NAME, limit, offset, cursor)

    def public(self, *, limit: int = 50, offset: int = 0, cursor: str | None = None) -> Page[LlmView]:
        """Everybody's public LLMs, newest first, without their keys."""
        check_window(limit, offset)
        return self._page(select(LlmRow).where(LlmRow.is_public), _NEWEST_FIRST, limit, offset, cursor)

    def get(self, principal: Principal, llm_id: int) -> LlmView:
        """One LLM of the owner's, or a public one; raises NotFoundError."""
        with self.database.transaction() as session:
            return _view(readable(session, LlmRow, llm_id, principal.owner_id))

    def create(self, principal: Principal, fields: LlmFields) -> LlmView:
        """Make an LLM; raises InvalidInputError that names the field and the rule."""
        complete = _with_defaults(fields)
        row = LlmRow(owner_id=principal.owner_id, api_key_sealed=None)
        self._apply(row, complete)
        with self.database.transaction() as session:
            session.add(row)
            session.flush()
            return self._saved(session, row, complete)

    def update(self, principal: Principal, llm_id: int, fields: LlmFields) -> LlmView:
        """Change what `fields` names; raises NotFoundError, InvalidInputError."""
        with self.database.transaction() as session:
            row = owned(session, LlmRow, llm_id, principal.owner_id, lock=True)
            self._apply(row, provider_rows.with_model(fields))
            return self._saved(session, row, fields)

    def delete(self, principal: Principal, llm_id: int) -> None:
        """Delete it; raises NotFoundError, and ConflictError while a visualization transform names it."""
        with self.database.transaction() as session:
            row = owned(session, LlmRow, llm_id, principal.owner_id, lock=True)
            named = VisualizationTransform.visualization_config["llm_id"].as_integer() == llm_id
            if session.scalar(select(exists().where(named))):
                raise ConflictError("a visualization transform names topics with the LLM: take it out there")
            session.delete(row)

    def test(self, principal: Principal, llm_id: int) -> LlmTest:
        """Put one question; what fails is the answer, not an error. Raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, LlmRow, llm_id, principal.owner_id)
        try:
            answer = self._open(row).complete("Answer with one word.", "Say hello.", max_tokens=_TEST_TOKENS)
        except ExplorerError as error:
            return LlmTest(success=False, message=error.message)
        return LlmTest(success=True, message=f"{row.model} answered: {' '.join(answer.split())[:100]}")

    def client(self, owner_id: str, llm_id: int) -> ChatModel:
        """The client of an owner's LLM. Raises NotFoundError, InvalidInputError, UnavailableError."""
        with self.database.transaction() as session:
            row = owned(session, LlmRow, llm_id, owner_id)
        return self._open(row)

    def reranker(self, owner_id: str, llm_id: int, model: str | None) -> Reranker:
        """A reranker at the address and with the key of an owner's LLM, `model` or the LLM's own.

        Raises NotFoundError and InvalidInputError(field="rerank.llm_id"), UnavailableError.
        """
        with self.database.transaction() as session:
            row = owned(session, LlmRow, llm_id, owner_id, field="rerank.llm_id")
        base = row.base_url or registry.PROVIDERS[row.provider].default_base_url
        if base is None:
            raise InvalidInputError(
                f"an LLM of provider {row.provider} has no reranker", field="rerank.llm_id"
            )
        return self.build_reranker(base, model or row.model, provider_rows.unseal(row, self.secrets))

    def _page(
        self,
        statement: Select[tuple[LlmRow]],
        order: Sequence[Key],
        limit: int,
        offset: int,
        cursor: str | None,
    ) -> Page[LlmView]:
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(_view(row) for (row,) in rows), total, limit, offset, following)

    def _apply(self, row: LlmRow, fields: Mapping[str, Any]) -> None:
        provider_rows.apply(row, fields, self.check_url)
        registry.validate(_spec(row, api_key=None))
        provider_rows.refuse_address(row, taken=registry.PROVIDERS[row.provider].takes_base_url)

    def _saved(self, session: Session, row: LlmRow, fields: Mapping[str, Any]) -> LlmView:
        if "api_key" in fields:
            provider_rows.seal(row, fields["api_key"], self.secrets)
        session.flush()
        session.refresh(row)
        return _view(row)

    def _open(self, row: LlmRow) -> ChatModel:
        return self.build(_spec(row, api_key=provider_rows.unseal(row, self.secrets)))


def _with_defaults(fields: LlmFields) -> dict[str, Any]:
    name = fields.get("provider", "openai")
    provider = find(registry.PROVIDERS, name)
    defaults: LlmFields = {
        "name": provider.title,
        "provider": name,
        "base_url": provider.default_base_url,
        "model": provider.default_model,
        "config": {},
        "is_public": False,
    }
    return provider_rows.completed(fields, defaults, needs_api_key=provider.needs_api_key)


def _spec(row: LlmRow, *, api_key: str | None) -> LanguageModelSpec:
    return LanguageModelSpec(
        provider=row.provider,
        model=row.model,
        base_url=row.base_url,
        api_key=api_key,
        config=dict(row.config),
    )


def _view(row: LlmRow) -> LlmView:
    return view(
        LlmView, row, has_api_key=row.api_key_sealed is not None, config={**row.config, "model": row.model}
    )
