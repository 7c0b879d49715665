"""Chat on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, RootModel, WithJsonSchema

from app.api.schemas.base import Body, KeyedWindow, PageReply, QueryString, Title
from app.services.chat import (
    MOST_MESSAGES,
    MOST_SESSIONS,
    ChatMessageView,
    ChatSessionView,
    RetrievedDocument,
)
from app.services.chat_events import ChatOptions
from app.services.search import MOST_RESULTS, QUERY_LENGTH

_DEFAULTS = ChatOptions()


class ChatSessionPath(BaseModel):
    """Names a conversation."""

    session_id: int


class ChatMessagePath(BaseModel):
    """Names a message."""

    message_id: int


class ChatWindow(KeyedWindow):
    """Which part of the list of conversations."""

    limit: int = Field(50, ge=1, le=MOST_SESSIONS)


class MessageWindow(KeyedWindow):
    """Which part of a conversation."""

    limit: int = Field(MOST_MESSAGES, ge=1, le=MOST_MESSAGES)


class RegenerateQuery(QueryString):
    """Whether the new answer comes as events."""

    stream: bool = False


class CreateChatSession(Body):
    """A new conversation over one embedded dataset; without a title it is named by the time."""

    embedded_dataset_id: int
    llm_id: int
    title: Title | None = None


class AskBody(Body):
    """A question, and how it is answered.

    `max_context_documents` passages at most, each at least `min_similarity_score` near and all of them at
    most `max_context_tokens` long, are shown to the model; `hybrid` also finds them by their words.
    `temperature` is the model's own unless given. `system_prompt` replaces our rules; passages stand where
    it says {{chunks}}.
    """

    content: Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": QUERY_LENGTH})]
    max_context_documents: int = Field(_DEFAULTS.max_context_documents, ge=1, le=MOST_RESULTS)
    min_similarity_score: float = Field(_DEFAULTS.min_similarity_score, ge=-1, le=1)
    max_context_tokens: int = Field(_DEFAULTS.max_context_tokens, ge=100, le=200_000)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int = Field(_DEFAULTS.max_tokens, ge=1, le=100_000)
    system_prompt: str | None = Field(None, min_length=1, max_length=20_000)
    hybrid: bool = False


class ChatSessionReply(RootModel[ChatSessionView]):
    """One conversation."""


class ChatSessionList(PageReply):
    """A page of conversations, the one last spoken in first."""

    rows = "sessions"
    sessions: list[ChatSessionView]


class ChatMessageList(PageReply):
    """A part of a conversation, oldest first."""

    rows = "messages"
    messages: list[ChatMessageView]


class AnswerReply(RootModel[ChatMessageView]):
    """An answer with the passages behind it."""


class Passages(RootModel[tuple[RetrievedDocument, ...]]):
    """The passages that a model is shown."""
