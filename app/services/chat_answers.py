"""Answers in a chat: found passages, one call of a language model, and a state that is always final.

The call runs in a thread of its own, so that whoever passes the answer on can look up every second and notice
that nobody reads any more: then the call is stopped.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.errors import (
    ConflictError,
    ExplorerError,
    InvalidInputError,
    NotFoundError,
    ProviderUnavailableError,
)
from app.pipeline.generation.base import AnswerOptions, ChatModel
from app.security.principal import Principal
from app.services.chat import ChatMessageView, RetrievedDocument, message_views, passage_url
from app.services.chat_events import Answer, ChatOptions, Done, Event, Failed, Piece, Retrieved, Stage
from app.services.chat_prompt import CountTokens, cited_numbers, conversation, within
from app.services.search import QUERY_LENGTH, Query, Search
from app.services.search_ranking import merged
from app.services.search_results import Match
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChatCitation, ChatMessage, ChatSession

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 300.0
_LOOK_UP_SECONDS = 1.0
_LEAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Whole:
    was_cut: bool


@dataclass(frozen=True, slots=True)
class _Work:
    """An answer to be made. `replaces` says that there is one already, which stays unless this succeeds."""

    owner: Principal
    session_id: int
    embedded_dataset_id: int
    llm_id: int
    answer_id: int
    question: str
    history: Sequence[tuple[str, str]]
    options: ChatOptions
    replaces: bool


@dataclass(slots=True)
class _Made:
    """What there is of an answer so far."""

    pieces: list[str] = field(default_factory=list)
    documents: tuple[RetrievedDocument, ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class ChatAnswers:
    """Verbs on answers. `model` opens the client of an owner's LLM."""

    database: Database
    search: Search
    model: Callable[[str, int], ChatModel]
    count_tokens: CountTokens
    seconds: float = ANSWER_SECONDS

    def ask(self, principal: Principal, session_id: int, content: str, options: ChatOptions) -> Answer:
        """Store the question and begin its answer.

        Raises NotFoundError, InvalidInputError, and ConflictError where the session can only be read.
        """
        question = _checked(content)
        with self.database.transaction() as session:
            row = owned(session, ChatSession, session_id, principal.owner_id, lock=True)
            dataset_id, llm_id = _usable(row)
            history = _history(session, session_id)
            asked = ChatMessage(session_id=session_id, role="user", content=question, status="complete")
            session.add(asked)
            session.flush()  # the question has the smaller id
            answer = ChatMessage(
                session_id=session_id,
                role="assistant",
                content="",
                status="incomplete",
                options=asdict(options),
            )
            session.add(answer)
            row.updated_at = func.now()
            session.flush()
            work = _Work(
                principal,
                session_id,
                dataset_id,
                llm_id,
                answer.message_id,
                question,
                history,
                options,
                replaces=False,
            )
        return Answer(work.answer_id, session_id, self._run(work))

    def regenerate(self, principal: Principal, message_id: int) -> Answer:
        """Answer the same question anew with its options; the old answer stays until the new one is whole.

        Raises NotFoundError, and ConflictError for a question or where the session can only be read.
        """
        with self.database.transaction() as session:
            message = session.get(ChatMessage, message_id)
            if message is None:
                raise NotFoundError(f"no message {message_id}")
            try:
                row = owned(session, ChatSession, message.session_id, principal.owner_id)
            except NotFoundError:
                raise NotFoundError(f"no message {message_id}") from None
            dataset_id, llm_id = _usable(row)
            if message.role != "assistant":
                raise ConflictError("only an answer can be generated anew, and this is a question")
            question = session.scalars(_before(message).where(ChatMessage.role == "user").limit(1)).one()
            history = _history(session, row.session_id, before=question.message_id)
            options = ChatOptions(**message.options)
            work = _Work(
                principal,
                row.session_id,
                dataset_id,
                llm_id,
                message_id,
                question.content,
                history,
                options,
                replaces=message.status == "complete",
            )
        return Answer(message_id, work.session_id, self._run(work))

    def _run(self, work: _Work) -> Generator[Event | None, None, None]:
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stopped, made = threading.Event(), _Made()
        run = partial(contextvars.copy_context().run, self._work, work, stopped, told.put)
        thread = threading.Thread(target=run, name=f"chat-{work.answer_id}", daemon=True)
        thread.start()
        settled = False
        try:
            for event in _heard(told, self.seconds):
                if isinstance(event, _Whole):
                    message = self._finish(work, made, was_cut=event.was_cut)
                    settled = True
                    yield Done(message)
                    return
                if isinstance(event, Failed):
                    settled = True
                    self._fail(work, event.error)
                    yield event
                    return
                _note(made, event)
                yield event
        finally:
            stopped.set()
            if not settled:
                self._interrupt(work, made)
            thread.join(_LEAVE_SECONDS)

    def _work(self, work: _Work, stopped: threading.Event, tell: Callable[[object], None]) -> None:
        """Find, ask, tell; in its own thread."""
        try:
            tell(Stage("retrieving"))
            matches = self._retrieve(work)
            tell(Retrieved(tuple(_document(*one) for one in enumerate(matches, start=1))))
            tell(Stage("answering"))
            options = AnswerOptions(
                work.options.max_tokens, work.options.temperature, self.seconds + _LEAVE_SECONDS
            )
            turns = conversation(
                work.options.system_prompt, matches, work.history, work.question, self.count_tokens
            )
            stream = self.model(work.owner.owner_id, work.llm_id).stream(turns, options, stopped=stopped)
            tell(_Whole(was_cut=_passed_on(stream, tell)))
        except ExplorerError as error:
            tell(Failed(error))
        except Exception:
            logger.exception("an answer failed", extra={"message_id": work.answer_id})
            tell(Failed(ExplorerError("The answer failed for a fault of ours; the log has more.")))

    def _retrieve(self, work: _Work) -> list[Match]:
        """Passages for the question, and for it after the one before: "and why?" alone finds nothing."""
        found = self._found(work, work.question)
        if work.history:
            before = work.history[-1][0]
            found = merged(found, self._found(work, f"{before}\n{work.question}"[-QUERY_LENGTH:]))
        best = found[: work.options.max_context_documents]
        return within(best, work.options.max_context_tokens, self.count_tokens)

    def _found(self, work: _Work, text: str) -> list[Match]:
        query = Query(
            text,
            [work.embedded_dataset_id],
            limit=work.options.max_context_documents,
            score_threshold=work.options.min_similarity_score,
            hybrid=work.options.hybrid,
        )
        return self.search.passages(work.owner, query)

    def _finish(self, work: _Work, made: _Made, *, was_cut: bool) -> ChatMessageView:
        with self.database.transaction() as session:
            row = self._settle(session, work, made, status="complete", was_cut=was_cut)
            session.refresh(row)
            return message_views(session, [row])[0]

    def _fail(self, work: _Work, error: ExplorerError) -> None:
        """All or nothing: of a failed answer its cause is kept, and no words."""
        if work.replaces:
            return
        with self.database.transaction() as session:
            self._settle(session, work, _Made(), status="error", error=error)

    def _interrupt(self, work: _Work, made: _Made) -> None:
        """Nobody reads any more: what there was is kept, marked as unfinished."""
        if work.replaces:
            return
        try:
            with self.database.transaction() as session:
                self._settle(session, work, made, status="incomplete")
        except ExplorerError as error:  # the row says incomplete since it was made
            logger.info("an interrupted answer stays without its words", extra={"reason": error.message})

    def _settle(
        self,
        session: Session,
        work: _Work,
        made: _Made,
        *,
        status: str,
        was_cut: bool = False,
        error: ExplorerError | None = None,
    ) -> ChatMessage:
        row = session.get(ChatMessage, work.answer_id, with_for_update=True)
        if row is None:
            raise NotFoundError(f"the chat session {work.session_id} was deleted meanwhile")
        row.content, row.status, row.was_cut = made.text.strip(), status, was_cut
        row.error_code = error.code if error else None
        row.error_message = error.message if error else None
        session.execute(delete(ChatCitation).where(ChatCitation.message_id == row.message_id))
        session.add_all(_citations(row, made.documents))
        session.flush()
        return row


def _heard(told: queue.SimpleQueue[Any], seconds: float) -> Iterator[Any]:
    """What the thread tells, None for each second without, and the end of the time that an answer has."""
    until = time.monotonic() + seconds
    while True:
        if time.monotonic() > until:
            late = ProviderUnavailableError(f"There was no whole answer within {seconds:g} seconds.")
            yield Failed(late, timed_out=True)
            return
        try:
            yield told.get(timeout=_LOOK_UP_SECONDS)
        except queue.Empty:
            yield None


def _note(made: _Made, event: Event | None) -> None:
    if isinstance(event, Piece):
        made.pieces.append(event.text)
    elif isinstance(event, Retrieved):
        made.documents = event.documents


def _passed_on(stream: Any, tell: Callable[[object], None]) -> bool:
    """Tell every piece; returns what the stream returns, whether it was cut."""
    while True:
        try:
            tell(Piece(next(stream)))
        except StopIteration as end:
            return bool(end.value)


def _checked(content: str) -> str:
    question = content.strip()
    if not question or len(question) > QUERY_LENGTH:
        raise InvalidInputError(f"content must have 1 to {QUERY_LENGTH} characters", field="content")
    return question


def _usable(row: ChatSession) -> tuple[int, int]:
    if row.embedded_dataset_id is None:
        raise ConflictError("the embedded dataset of this chat was deleted: begin a new one")
    if row.llm_id is None:
        raise ConflictError("the LLM of this chat was deleted: begin a new one")
    return row.embedded_dataset_id, row.llm_id


def _before(message: ChatMessage) -> Any:
    return (
        select(ChatMessage)
        .where(ChatMessage.session_id == message.session_id, ChatMessage.message_id < message.message_id)
        .order_by(ChatMessage.message_id.desc())
    )


def _history(session: Session, session_id: int, *, before: int | None = None) -> list[tuple[str, str]]:
    """Questions that have a whole answer, with it; the last 20."""
    statement = select(ChatMessage).where(ChatMessage.session_id == session_id)
    if before is not None:
        statement = statement.where(ChatMessage.message_id < before)
    rows = session.scalars(statement.order_by(ChatMessage.message_id.desc()).limit(40)).all()[::-1]
    return [
        (asked.content, answered.content)
        for asked, answered in itertools.pairwise(rows)
        if asked.role == "user" and answered.role == "assistant" and answered.status == "complete"
    ]


def _document(number: int, match: Match) -> RetrievedDocument:
    return RetrievedDocument(
        number=number,
        document_id=match.item_id,
        chunk_id=match.chunk_id,
        item_title=match.item_title,
        text=match.text,
        page=match.page,
        similarity_score=match.similarity if match.similarity is not None else 0.0,
        is_cited=False,
        is_gone=False,
        url=passage_url(match.item_id, match.chunk_id),
    )


def _citations(row: ChatMessage, documents: Sequence[RetrievedDocument]) -> list[ChatCitation]:
    cited = cited_numbers(row.content, len(documents))
    return [
        ChatCitation(
            message_id=row.message_id,
            number=one.number,
            chunk_id=one.chunk_id,
            item_id=one.document_id,
            similarity_score=one.similarity_score,
            is_cited=one.number in cited,
        )
        for one in documents
    ]
