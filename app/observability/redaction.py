"""Taking secrets out of what is logged or shown: by the name of a field, and by the look of a value."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from app.secret_words import NAMES_OF_SECRETS

MARK = "[redacted]"
_LONGEST = 100_000  # characters looked at, and kept

_SECRET_NAME = re.compile(rf"(^|[_.\- ])({NAMES_OF_SECRETS})$", re.IGNORECASE)
_SECRET_VALUES = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=\-]{6,}"), rf"\1 {MARK}"),
    (re.compile(r"\b(sk|pk|rk|co|ghp|xox[abp])[-_][A-Za-z0-9_\-]{12,}"), MARK),
    (re.compile(r"(?i)\b([a-z0-9+]{1,20}://[^\s:/@]{0,100}):[^\s@/]+@"), rf"\1:{MARK}@"),
    (
        re.compile(
            r"(?i)\b((?:\w{0,40}password|\w{0,40}secret|\w{0,40}api[_-]?key|\w{0,40}token|x-amz-signature|x-amz-credential)"
            r"[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"'&,;]{4,}"
        ),
        rf"\1{MARK}",
    ),
)


# Each pattern above needs one of these. Most texts are short and hold none: looking for them is much quicker.
_SIGNS = (
    "bearer", "basic", "://", "password", "secret", "key", "token", "x-amz-",
    *(f"{start}{end}" for start in ("sk", "pk", "rk", "co", "ghp", "xoxa", "xoxb", "xoxp") for end in "-_"),
)  # fmt: skip


@lru_cache(maxsize=4096)
def hashed(who: str) -> str:
    """A person as logs may name them: the same in every line, and nobody's name or address."""
    return hashlib.sha256(who.encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name may hold a secret; `token_count` or `tokens` may not."""
    return bool(_SECRET_NAME.search(name))


def is_harmless(text: str) -> bool:
    """Whether it surely holds nothing that `redact` would take out: its signs are not there."""
    lower = text.lower()
    return text.isascii() and not any(sign in lower for sign in _SIGNS)


def redact(text: str) -> str:
    """`text` without bearer tokens, key formats, passwords in URLs and `key=value` secrets.

    Keeps at most 100,000 characters; the time is linear in them.
    """
    text = text[:_LONGEST]
    if is_harmless(text):
        return text
    for pattern, replacement in _SECRET_VALUES:
        text = pattern.sub(replacement, text)
    return text
