"""Chat sessions and their messages. Answers come from chat_answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.errors import InvalidInputError
from app.security.principal import Principal
from app.services.described import check_title
from app.services.paging import Page, check_window
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChatCitation,
    ChatMessage,
    ChatSession,
    ChunkRow,
    EmbeddedDataset,
    Item,
    LlmRow,
)

MOST_SESSIONS, MOST_MESSAGES = 200, 500
_LAST_SPOKEN_IN = (
    Key("updated_at", ChatSession.updated_at, descending=True),
    Key("session_id", ChatSession.session_id, descending=True),
)
_AS_SAID = (Key("message_id", ChatMessage.message_id),)


@dataclass(frozen=True, slots=True)
class ChatSessionView:
    """A conversation; an id is None once the thing is deleted, and then it can only be read."""

    session_id: int
    title: str
    embedded_dataset_id: int | None
    llm_id: int | None
    owner_id: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RetrievedDocument:
    """A passage that the model was shown as [number]; `url` opens it in its document.

    `document_id` is its item. With `is_gone` the passage is no longer there, and title and text are empty.
    """

    number: int
    document_id: int
    chunk_id: UUID
    item_title: str
    text: str
    page: int | None
    similarity_score: float
    is_cited: bool
    is_gone: bool
    url: str


@dataclass(frozen=True, slots=True)
class ChatMessageView:
    """A question or an answer. Only a `complete` one is whole; with `was_cut` it met its limit of tokens."""

    message_id: int
    session_id: int
    role: str
    content: str
    status: str
    was_cut: bool
    error_code: str | None
    error_message: str | None
    documents_retrieved: int
    retrieved_documents: tuple[RetrievedDocument, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Chats:
    """Verbs on chat sessions."""

    database: Database

    def create(
        self, principal: Principal, *, embedded_dataset_id: int, llm_id: int, title: str | None = None
    ) -> ChatSessionView:
        """Begin a conversation; raises NotFoundError that names the field, InvalidInputError."""
        named = check_title(title) if title is not None else _default_title()
        with self.database.transaction() as session:
            source = owned(
                session, EmbeddedDataset, embedded_dataset_id, principal.owner_id, field="embedded_dataset_id"
            )
            if source.is_standalone:
                raise InvalidInputError(
                    "a chat needs the passages of a dataset, and a standalone embedded dataset has none",
                    field="embedded_dataset_id",
                )
            owned(session, LlmRow, llm_id, principal.owner_id, field="llm_id")
            row = ChatSession(
                owner_id=principal.owner_id,
                title=named,
                embedded_dataset_id=embedded_dataset_id,
                llm_id=llm_id,
            )
            session.add(row)
            session.flush()
            session.refresh(row)
            return view(ChatSessionView, row)

    def list(
        self, principal: Principal, *, limit: int = 50, offset: int = 0, cursor: str | None = None
    ) -> Page[ChatSessionView]:
        """The owner's conversations, the one last spoken in first."""
        check_window(limit, offset, most=MOST_SESSIONS)
        statement = select(ChatSession).where(ChatSession.owner_id == principal.owner_id)
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, statement, _LAST_SPOKEN_IN, limit=limit, offset=offset, cursor=cursor
            )
            views = tuple(view(ChatSessionView, row) for (row,) in rows)
            return Page(views, total, limit, offset, following)

    def get(self, principal: Principal, session_id: int) -> ChatSessionView:
        """One conversation; raises NotFoundError."""
        with self.database.transaction() as session:
            return view(ChatSessionView, owned(session, ChatSession, session_id, principal.owner_id))

    def delete(self, principal: Principal, session_id: int) -> None:
        """Delete it with its messages; raises NotFoundError."""
        with self.database.transaction() as session:
            session.delete(owned(session, ChatSession, session_id, principal.owner_id, lock=True))

    def messages(
        self,
        principal: Principal,
        session_id: int,
        *,
        limit: int = MOST_MESSAGES,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[ChatMessageView]:
        """What was said, oldest first; raises NotFoundError."""
        check_window(limit, offset, most=MOST_MESSAGES)
        statement = select(ChatMessage).where(ChatMessage.session_id == session_id)
        with self.database.transaction() as session:
            owned(session, ChatSession, session_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, _AS_SAID, limit=limit, offset=offset, cursor=cursor
            )
            return Page(message_views(session, [row for (row,) in rows]), total, limit, offset, following)


def message_views(session: Session, rows: Sequence[ChatMessage]) -> tuple[ChatMessageView, ...]:
    """The messages with the passages behind them, as those are now."""
    shown: dict[int, list[RetrievedDocument]] = {}
    statement = (
        select(ChatCitation, ChunkRow, Item.title)
        .outerjoin(ChunkRow, ChunkRow.chunk_id == ChatCitation.chunk_id)
        .outerjoin(Item, Item.item_id == ChunkRow.item_id)
        .where(ChatCitation.message_id.in_([row.message_id for row in rows]))
        .order_by(ChatCitation.message_id, ChatCitation.number)
    )
    for found in session.execute(statement):
        shown.setdefault(found.ChatCitation.message_id, []).append(_document(found))
    return tuple(
        view(
            ChatMessageView,
            row,
            documents_retrieved=len(shown.get(row.message_id, ())),
            retrieved_documents=tuple(shown.get(row.message_id, ())),
        )
        for row in rows
    )


def passage_url(item_id: int, chunk_id: UUID) -> str:
    """Where the reader opens a passage."""
    return f"/documents/{item_id}?passage={chunk_id}"


def _document(row: Row[Any]) -> RetrievedDocument:
    citation, chunk = row.ChatCitation, row.ChunkRow
    return RetrievedDocument(
        number=citation.number,
        document_id=citation.item_id,
        chunk_id=citation.chunk_id,
        item_title=row.title or "",
        text=chunk.text if chunk else "",
        page=chunk.page if chunk else None,
        similarity_score=citation.similarity_score,
        is_cited=citation.is_cited,
        is_gone=chunk is None,
        url=passage_url(citation.item_id, citation.chunk_id),
    )


def _default_title() -> str:
    return f"chat-session-{datetime.now(UTC):%Y%m%d-%H%M%S}"
