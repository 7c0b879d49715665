"""Chat: conversations on the left, the one that is open on the right; answers stream in through the API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template
from markupsafe import Markup, escape

from app.pipeline.generation.registry import PROVIDERS
from app.services.chat import ChatMessageView, ChatSessionView, RetrievedDocument
from app.web import frame
from app.web.search import Source, searchable

if TYPE_CHECKING:
    from app.container import Container

_NUMBERS = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_SHOWN_SESSIONS = 100
_MOST_LLMS = 200


def add(web: Blueprint, container: Container) -> None:
    """Add the page, and the part of it that is read again after an answer."""
    services = container.services
    serves = bool(container.settings.llm_inference_api_url)
    offered = {name: one for name, one in PROVIDERS.items() if one.takes_base_url or serves}

    def page(session: ChatSessionView | None, messages: Sequence[ChatMessageView] = ()) -> str:
        who = frame.principal()
        sources = searchable(services.overview.collections(who))
        return render_template(
            "chat.html",
            sessions=services.chats.list(who, limit=_SHOWN_SESSIONS).items,
            session=session,
            messages=messages,
            sources=sources,
            source=_source(sources, session),
            llms=services.llms.list(who, limit=_MOST_LLMS).items,
            providers=offered,
            cited=cited,
        )

    @web.get("/chat")
    def chat() -> str:
        return page(None)

    @web.get("/chat/<int:session_id>")
    def chat_session(session_id: int) -> str:
        who = frame.principal()
        session = services.chats.get(who, session_id)
        return page(session, services.chats.messages(who, session_id).items)

    @web.get("/parts/chat/<int:session_id>")
    def chat_thread(session_id: int) -> str:
        messages = services.chats.messages(frame.principal(), session_id).items
        return render_template("parts/chat_thread.html", messages=messages, cited=cited)


def cited(answer: str, documents: Sequence[RetrievedDocument]) -> Markup:
    """The answer as safe HTML, its numbers leading to their passages; a number of none stays text."""
    by_number = {one.number: one for one in documents}

    def linked(found: re.Match[str]) -> Markup:
        numbers = [int(number) for number in re.findall(r"\d+", found.group(1))]
        if not all(number in by_number for number in numbers):
            return escape(found.group())
        return Markup("").join(_link(by_number[number]) for number in numbers)

    parts: list[Any] = []
    end = 0
    for found in _NUMBERS.finditer(answer):
        parts += [escape(answer[end : found.start()]), linked(found)]
        end = found.end()
    return Markup("").join([*parts, escape(answer[end:])])


def _link(one: RetrievedDocument) -> Markup:
    title = one.item_title or "This passage is no longer there"
    return Markup('<a class="cite" href="{}" title="{}">{}</a>').format(one.url, title, one.number)


def _source(sources: Sequence[Source], session: ChatSessionView | None) -> Source | None:
    wanted = session.embedded_dataset_id if session else None
    return next((one for one in sources if one.embedded_dataset_id == wanted), None)
