"""/api/chat: conversations over an embedded dataset, with answers that name their passages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ResponseDict

from app.api import sse
from app.api.context import me, services
from app.api.openapi import answers
from app.api.replies import nothing, reply
from app.api.schemas.base import PROBLEMS, WITH_CONFLICT, Problem
from app.api.schemas.chat import (
    AnswerReply,
    AskBody,
    ChatMessageList,
    ChatMessagePath,
    ChatSessionList,
    ChatSessionPath,
    ChatSessionReply,
    ChatWindow,
    CreateChatSession,
    MessageWindow,
    Passages,
    RegenerateQuery,
)
from app.errors import ExplorerError, UnavailableError
from app.services.chat import ChatMessageView
from app.services.chat_events import Answer, ChatOptions, Done, Event, Failed, Piece, Retrieved, Stage

api = APIBlueprint(
    "chat", __name__, url_prefix="/api/chat", abp_tags=[Tag(name="Chat")], abp_responses=PROBLEMS
)

# A write is what finds out that nobody reads any more: then the model stops, which costs money.
_HEARTBEAT_SECONDS = 3.0
_WITH_PROVIDER: ResponseDict = {**WITH_CONFLICT, "502": Problem}
_SESSION = "/sessions/<int:session_id>"


@api.post("/sessions", responses={201: ChatSessionReply})
def create_chat_session(body: CreateChatSession) -> Response:
    """Begin a conversation."""
    made = services().chats.create(
        me(), embedded_dataset_id=body.embedded_dataset_id, llm_id=body.llm_id, title=body.title
    )
    return reply(ChatSessionReply(made), 201)


@api.get("/sessions", responses={200: ChatSessionList})
def list_chat_sessions(query: ChatWindow) -> Response:
    """List the owner's conversations, the one last spoken in first."""
    page = services().chats.list(me(), limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(ChatSessionList.of(page))


@api.get(_SESSION, responses={200: ChatSessionReply})
def get_chat_session(path: ChatSessionPath) -> Response:
    """Read one conversation's title and what it is about."""
    return reply(ChatSessionReply(services().chats.get(me(), path.session_id)))


@api.delete(_SESSION, responses={204: None})
def delete_chat_session(path: ChatSessionPath) -> Response:
    """Delete a conversation with its messages."""
    services().chats.delete(me(), path.session_id)
    return nothing()


@api.get(f"{_SESSION}/messages", responses={200: ChatMessageList})
def list_chat_messages(path: ChatSessionPath, query: MessageWindow) -> Response:
    """List what was said, oldest first, answers with their passages."""
    page = services().chats.messages(
        me(), path.session_id, limit=query.limit, offset=query.offset, cursor=query.cursor
    )
    return reply(ChatMessageList.of(page))


@api.post(f"{_SESSION}/messages", responses={200: AnswerReply, **_WITH_PROVIDER})
def ask(path: ChatSessionPath, body: AskBody) -> Response:
    """Put a question and wait for the whole answer."""
    return reply(AnswerReply(_whole(_asked(path, body))))


@api.post(f"{_SESSION}/messages/stream", responses={**answers("text/event-stream"), **_WITH_PROVIDER})
def ask_stream(path: ChatSessionPath, body: AskBody) -> Response:
    """Put a question and read the answer as it comes (connected, progress, content, complete or error)."""
    return _streamed(_asked(path, body))


@api.post(
    "/messages/<int:message_id>/regenerate",
    responses={
        "200": {
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/AnswerReply"}},
                "text/event-stream": {"schema": {"type": "string"}},
            }
        },
        **_WITH_PROVIDER,
    },
)
def regenerate(path: ChatMessagePath, query: RegenerateQuery) -> Response:
    """Answer the same question anew; the old answer stays until the new one is whole."""
    answer = services().chat_answers.regenerate(me(), path.message_id)
    return _streamed(answer) if query.stream else reply(AnswerReply(_whole(answer)))


def _asked(path: ChatSessionPath, body: AskBody) -> Answer:
    options = ChatOptions(**body.model_dump(exclude={"content"}))
    return services().chat_answers.ask(me(), path.session_id, body.content, options)


def _whole(answer: Answer) -> ChatMessageView:
    with closing(answer.events):
        for event in answer.events:
            if isinstance(event, Done):
                return event.message
            if isinstance(event, Failed):
                raise event.error
    raise AssertionError("an answer ends with Done or Failed")


def _streamed(answer: Answer) -> Response:
    draining = current_app.extensions.get(sse.DRAINING, lambda: False)
    return sse.respond(_lines(answer, draining))


def _lines(answer: Answer, draining: Callable[[], bool]) -> Iterator[str]:
    """The stream; closing it closes the answer's events, which stops the model and marks the message."""
    yield sse.event("connected", {"session_id": answer.session_id, "message_id": answer.message_id})
    spoke = time.monotonic()
    with closing(answer.events):
        try:
            for event in answer.events:
                if draining():
                    yield _error(answer, UnavailableError("The server is stopping: ask again."))
                    return
                if event is None and time.monotonic() - spoke < _HEARTBEAT_SECONDS:
                    continue
                spoke = time.monotonic()
                yield ": still here\n\n" if event is None else _line(answer, event)
        except ExplorerError as error:
            yield _error(answer, error)


def _line(answer: Answer, event: Event) -> str:
    match event:
        case Stage(name):
            return sse.event("progress", {"stage": name})
        case Retrieved(documents):
            shown = Passages(documents).model_dump(mode="json")
            return sse.event(
                "retrieval_complete", {"documents_retrieved": len(shown), "retrieved_documents": shown}
            )
        case Piece(text):
            return sse.event("content", {"content": text})
        case Done(message):
            return sse.event("complete", AnswerReply(message).model_dump(mode="json"))
        case Failed(error, timed_out):
            return _error(answer, error, name="timeout" if timed_out else "error")


def _error(answer: Answer, error: ExplorerError, *, name: str = "error") -> str:
    data: dict[str, Any] = {
        "message_id": answer.message_id,
        "error": error.message,
        "message": error.message,
        "code": error.code,
        "status": error.http_status,
    }
    return sse.event(name, data)
