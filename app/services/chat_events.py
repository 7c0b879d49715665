"""What is asked of an answer in a chat, and what is told while it is made."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from app.errors import ExplorerError
from app.services.chat import ChatMessageView, RetrievedDocument


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a question is answered. `hybrid` also finds passages by their words.

    `temperature` None leaves it to the model; `system_prompt` replaces our rules, with {{chunks}} where the
    passages go.
    """

    max_context_documents: int = 20
    min_similarity_score: float = 0.2
    max_context_tokens: int = 5000
    temperature: float | None = None
    max_tokens: int = 2000
    system_prompt: str | None = None
    hybrid: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """What is being done: retrieving or answering."""

    name: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that the model is shown."""

    documents: tuple[RetrievedDocument, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The next words."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer, as it is stored."""

    message: ChatMessageView


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer; the message says so, too."""

    error: ExplorerError
    timed_out: bool = False


Event = Stage | Retrieved | Piece | Done | Failed


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer on its way: the message's id, and its events, which must be read or closed.

    None among the events says that nothing happened for a second.
    """

    message_id: int
    session_id: int
    events: Generator[Event | None, None, None]
