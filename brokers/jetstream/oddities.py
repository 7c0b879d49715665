"""What is odd about a message and does not stop it: said in the log, with what was done about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from brokers.jetstream.message import CARRIED_HEADER, FORMAT_HEADER, JetStreamMessage, is_count
from brokers.jetstream.schedule import is_number

log = logging.getLogger(__name__)

_TOLERATED_SECONDS = 60.0  # between two clocks
_LATE_SECONDS = 1.0  # on the way to us: no schedule in the past

_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "eta": (is_number, "no Unix milliseconds: it is due now"),
    "deadline": (is_number, "no Unix milliseconds: it has none"),
    "retries": (lambda value: isinstance(value, int) and value >= 0, "no count: this is its first attempt"),
    "attempts": (lambda value: isinstance(value, list), "no list: its history begins anew"),
    "traceparent": (lambda value: isinstance(value, str), "no text: its trace ends here"),
    "tracestate": (lambda value: isinstance(value, str), "no text: it is not passed on"),
}


def note_options(message: Any) -> None:
    """Warn of options of the wrong type. Free for a message without any."""
    options = message.options
    for name in _OPTIONS.keys() & options.keys():
        fits, problem = _OPTIONS[name]
        if options[name] is not None and not fits(options[name]):
            log.warning(
                "The option %s of message %s is %r, %s.", name, message.message_id, options[name], problem
            )


def note_schedule(message: Any, eta_ms: Any, delay_ms: float | None) -> None:
    """Warn of a message that is to be sent in the past."""
    late = -(delay_ms or 0) / 1000
    if is_number(eta_ms):
        late = max(late, time.time() - eta_ms / 1000)
    if late > _LATE_SECONDS:
        log.warning(
            "Message %s is scheduled for %.0f s ago, or the sender's clock is ahead: it is due now.",
            message.message_id,
            late,
        )


def note_arrival(message: JetStreamMessage) -> None:
    """Warn of what is odd about a message that was delivered."""
    note_options(message)
    headers = message.delivery.headers
    for name in (CARRIED_HEADER, FORMAT_HEADER):
        text = headers.get(name, "0")
        if not is_count(text):
            log.warning("The header %s of message %s is %.60r, no number: taken as 0.", name, message, text)
    if not message.delivery.redelivered:
        _note_senders_clock(message)


def _note_senders_clock(message: JetStreamMessage) -> None:
    """By the server's clock nothing is stored before it is made. Made long before may as well have waited."""
    ahead = message.message_timestamp / 1000 - message.delivery.stored_at / 1e9
    if ahead > _TOLERATED_SECONDS:
        log.warning(
            "Message %s was made %.0f s after the server stored it: the sender's clock is ahead. "
            "It runs; its max_age and times that it was given go by that clock.",
            message.message_id,
            ahead,
        )
    elif -ahead > _TOLERATED_SECONDS:
        log.info(
            "Message %s was made %.0f s before the server stored it: it waited somewhere, or the sender's "
            "clock is behind. It runs unless its max_age is over.",
            message.message_id,
            -ahead,
        )


class ClockWatch:
    """Warns when this machine's clock is off the server's; again only after it was right meanwhile."""

    def __init__(self) -> None:
        self._is_off = False

    def compare(self, server: datetime) -> None:
        """`server` is the time on the server's clock, now."""
        ahead = (datetime.now(UTC) - server).total_seconds()
        was_off, self._is_off = self._is_off, abs(ahead) > _TOLERATED_SECONDS
        if self._is_off and not was_off:
            log.warning(
                "This machine's clock is %.0f s %s the server's: due times, deadlines and ages of what it "
                "sends and runs are off by that.",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
            )
