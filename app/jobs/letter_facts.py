"""What the index says of a dead letter: cause and fingerprint, that group what died of the same mistake."""

from __future__ import annotations

import functools
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from app.jobs.messages import job_of_id
from app.jobs.pools import POOLS
from app.security.masking import mask_text
from app.storage.postgres.tables.dead_letters import LETTER_REASONS
from brokers import DeadLetter

_CAUSE_CHARACTERS = 300
_FRAMES = 3
_FINGERPRINT_DIGITS = 16
_FRAME = re.compile(
    r'File "(?![^"]*site-packages)[^"]*?(?P<file>(?:app|tasks|brokers)/[^"]+)", '
    r"line \d+, in (?P<function>\S+)"
)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
# As users name files that we read; our errors about a file begin with its name, which may have spaces.
_NAMED = (
    r"\.(?:pdf|docx?|xlsx?|pptx?|od[tsp]|rtf|txt|md|rst|html?|xml|json|jsonl|csv|tsv|eml|msg|mbox|zip|tar|t?gz"
    r"|epub|ipynb|py|log)\b"
)
# What differs from letter to letter of one cause, the longest first.
_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\bhttps?://[^\s'\"]+"), "<url>"),
    (re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`"), "<text>"),
    (re.compile(rf"^.{{1,255}}?{_NAMED}(?= [a-z])|[^\s'\"(]+{_NAMED}", re.IGNORECASE), "<file>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{12,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"(?:/[\w.+-]+){2,}"), "<path>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)
_POOL_OF = {pool.queue: pool.name for pool in POOLS.values()}


def cause_of(message: str) -> str:
    """A masked message without ids, numbers, texts and addresses: one line of at most 300 characters."""
    cause = message
    for shape, word in _VARIABLE:
        cause = shape.sub(word, cause)
    return cause.strip()[:_CAUSE_CHARACTERS]


@functools.lru_cache(maxsize=256)  # what dies in a crowd dies in one place
def our_frames(trace: str) -> tuple[str, ...]:
    """The places of a traceback that are ours, the last one last, without line numbers: those move."""
    return tuple(f"{found['file']}:{found['function']}" for found in _FRAME.finditer(trace))


def is_ours(line: str) -> bool:
    """Whether the line of a traceback that names a place names one of ours."""
    return _FRAME.search(line) is not None


def fingerprint_of(error_class: str | None, cause: str, trace: str) -> str:
    """16 hex digits that letters of one cause share."""
    parts = [error_class or "", cause, *our_frames(trace)[-_FRAMES:]]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:_FINGERPRINT_DIGITS]


def facts_of(letter: DeadLetter, stream_life: str) -> dict[str, Any]:
    """The columns of a letter's row that the letter alone tells."""
    job = job_of_id(letter.message_id)
    message = mask_text(letter.error_message)
    cause = cause_of(message or letter.reason)
    return {
        "stream_life": stream_life,
        "sequence": letter.id,
        "message_id": _storable(letter.message_id),
        "job_id": job[0] if job else None,
        "actor": _storable(letter.actor),
        "queue": letter.queue,
        "pool": _POOL_OF.get(letter.queue),
        "reason": letter.reason if letter.reason in LETTER_REASONS else "unknown",
        "error_class": _storable(letter.error_class),
        "error_message": _storable(message),
        "cause": _storable(cause),
        "fingerprint": fingerprint_of(letter.error_class, cause, letter.trace),
        "attempts": len(letter.attempts),
        "worker": letter.worker,
        "trace_id": _trace_id(letter.traceparent),
        "size_bytes": letter.size_bytes,
        "truncated_bytes": letter.truncated_bytes,
        "first_seen_at": _first_attempt(letter) or letter.dead_at,
        "died_at": letter.dead_at,
        "expires_at": letter.expires_at,
        "origin": _storable(letter.provenance.origin) if letter.provenance is not None else None,
    }


def place_of(origin: str) -> tuple[str, int] | None:
    """Life of the stream and sequence of an origin, "life:sequence"; None for what is none."""
    life, _, sequence = origin.rpartition(":")
    return (life, int(sequence)) if life and sequence.isascii() and sequence.isdigit() else None


def _first_attempt(letter: DeadLetter) -> datetime | None:
    """When the first attempt that is known began; nonsense, or a clock far from ours, counts as unknown."""
    first = letter.attempts[0].get("started_at") if letter.attempts else None
    if not isinstance(first, int | float):
        return None
    try:
        found = datetime.fromtimestamp(first, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    if not timedelta(0) <= letter.dead_at - found < timedelta(days=365):
        return None
    return found


def _trace_id(traceparent: str | None) -> str | None:
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else None


def _storable(text: str | None) -> str | None:
    """Text as Postgres takes it: a stranger's message may hold what UTF-8 or a text column cannot."""
    if text is None or (text.isascii() and "\x00" not in text):
        return text
    return text.encode(errors="replace").decode().replace("\x00", "�")
