"""What the HTTP language models share: one question, one answer.

A subclass says how a request looks and where the text stands in the answer.
"""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from app.errors import ProviderUnavailableError
from app.pipeline.generation.base import AnswerOptions, LanguageModelSpec, Turn
from app.pipeline.generation.wire import Thoughts, event_data
from app.pipeline.remote import GARBAGE, Remote, RetryPolicy
from app.security.outbound import OutboundClient

# Models served without a reasoning parser write their thoughts into the answer; cut off, they never close.
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_RETRY = RetryPolicy(attempts=3)
_DONE = "[DONE]"
_CUT = frozenset({"length", "MAX_TOKENS"})
_FAILED = frozenset({"ERROR", "ERROR_TOXIC", "error", "TIMEOUT"})


class RemoteLanguageModel(ABC):
    """Asks through a provider's HTTP interface. Thread-safe."""

    default_base_url = ""
    path = ""  # of the chat endpoint, below the base URL
    stream_path: str | None = None  # of the one that streams, where that is another
    tells_its_end = True  # else a streamed answer is whole when its body is

    def __init__(
        self, spec: LanguageModelSpec, http: OutboundClient, retry: RetryPolicy | None = None
    ) -> None:
        self._spec = spec
        self._remote = Remote(spec.provider, http, spec.api_key, retry or _RETRY)
        base = (spec.base_url or self.default_base_url).rstrip("/").removesuffix(self.path)
        self._url, self._stream_url = base + self.path, base + (self.stream_path or self.path)

    def complete(self, system: str, user: str, *, max_tokens: int) -> str:
        """See LanguageModel."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        payload: dict[str, object] = {"model": self._spec.model, "messages": messages, "stream": False}
        payload |= self._options(int(str(self._spec.config.get("max_tokens") or max_tokens)))
        temperature = self._spec.config.get("temperature")
        if temperature is not None:
            payload["temperature"] = temperature
        response = self._remote.post(self._url, payload)
        self._remote.check(response)
        return self._whole(response.body)

    def _whole(self, body: bytes) -> str:
        try:
            whole = json.loads(body)
            self._remote.count_tokens(whole)
            text = self._text(whole)
        except GARBAGE as error:
            raise ProviderUnavailableError(
                f"{self._remote.name} answered something that is not a chat answer ({type(error).__name__})."
            ) from error
        answer = _THOUGHTS.sub("", text).strip()
        if not answer:
            raise ProviderUnavailableError(f"{self._remote.name} answered nothing; raise config.max_tokens.")
        return answer

    def stream(
        self, turns: Sequence[Turn], options: AnswerOptions, *, stopped: threading.Event
    ) -> Generator[str, None, bool]:
        """See ChatModel."""
        payload = self._conversation(turns, options)
        seconds = options.timeout_seconds
        with self._remote.stream(
            self._stream_url, payload, timeout_seconds=seconds, stopped=stopped
        ) as answer:
            if "json" in answer.headers.get("content-type", ""):  # some gateways do not stream
                yield self._whole(b"".join(answer.body))
                return False
            return (yield from self._said(answer.body))

    def _conversation(self, turns: Sequence[Turn], options: AnswerOptions) -> dict[str, object]:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        payload: dict[str, object] = {"model": self._spec.model, "messages": messages, "stream": True}
        payload |= self._options(int(str(self._spec.config.get("max_tokens") or options.max_tokens)))
        temperature = options.temperature
        if temperature is None:
            temperature = self._spec.config.get("temperature")  # type: ignore[assignment]  # checked with the spec
        return payload if temperature is None else payload | {"temperature": temperature}

    def _said(self, body: Iterable[bytes]) -> Generator[str, None, bool]:
        """The pieces; returns whether the last one was cut off. Else an end without a sign is a failure."""
        thoughts, any_text, end = Thoughts(), False, ""
        for data in event_data(body):
            piece, end = self._parsed(data)
            shown = thoughts.said(piece)
            shown = shown if any_text else shown.lstrip()
            if shown:
                any_text = True
                yield shown
            if end:
                break
        if not end and self.tells_its_end:
            raise ProviderUnavailableError(f"{self._remote.name} broke off in the middle of its answer.")
        rest = thoughts.rest()
        if rest:
            yield rest
        if not any_text and not rest.strip():
            raise ProviderUnavailableError(f"{self._remote.name} answered nothing; raise max_tokens.")
        return end in _CUT

    def _parsed(self, data: str) -> tuple[str, str]:
        """The text of an event, and why the answer ends with it, if it does."""
        if data.strip() == _DONE:
            return "", _DONE
        try:
            event = json.loads(data)
            complaint = event.get("error")
            self._remote.count_tokens(event)
            piece, end = ("", "") if complaint else self._piece(event)
        except GARBAGE as error:
            raise ProviderUnavailableError(
                f"{self._remote.name} sent something that is no part of an answer ({type(error).__name__})."
            ) from error
        if complaint or end in _FAILED:
            words = self._remote.complaint(complaint or event)
            raise ProviderUnavailableError(f"{self._remote.name} gave up its answer: {words}")
        return piece, end

    @abstractmethod
    def _piece(self, event: Any) -> tuple[str, str]:
        """The text of a part of a streamed answer, and why it ends there or "". Errors as for `_text`."""

    @abstractmethod
    def _options(self, max_tokens: int) -> dict[str, object]:
        """What of the body is the provider's own."""

    @abstractmethod
    def _text(self, answer: Any) -> str:
        """The text of an answer. One of `GARBAGE` means that it is none."""
