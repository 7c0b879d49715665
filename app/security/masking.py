"""Hides what looks like a secret: values under telling names, and telling shapes within texts."""

from __future__ import annotations

import re
from typing import Any

from app.secret_words import NAMES_OF_SECRETS

MASK = "•••"
_NAMES = re.compile(rf"pass$|session[-_]?id|{NAMES_OF_SECRETS}", re.IGNORECASE)
# Between a name and its value, and a value in quotes; both may be JSON within JSON. A quote that nothing ends
# goes to the end of its line.
_IS = r"[\\'\"]*\s*[=:]\s*"
_QUOTED = r"[bru]?(?P<quote>\\*['\"])(?:(?!(?<!\\)(?P=quote)).)*(?P=quote)?"
_SHAPES = (
    re.compile(
        r"(?s)(?P<name>-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
    ),
    # headers: their value is the rest of the line
    re.compile(rf"(?i)(?P<name>(?:authorization|cookie){_IS})(?:{_QUOTED}|[^\r\n]+)"),
    # user and password in a URL
    re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/=]{12,}"),
    # keys of providers, of AWS, of GitHub, and tokens of ours
    re.compile(r"\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|hf|co)[-_][A-Za-z0-9_-]{8,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
    # name=value as in a query string, a log line or a repr
    re.compile(
        rf"(?i)(?P<name>(?:\bpass|session[-_]?id|{NAMES_OF_SECRETS}){_IS})(?:{_QUOTED}|[^\s,;&)}}\]]+)"
    ),
)

# What one of the shapes begins with: most texts have nothing of it, and are looked at once instead of often.
# Folding a text and searching it as it is takes a third of a search without regard to case.
_HINT = re.compile(
    r"://|bearer |basic |\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|hf|co)[-_]|akia|asia|eyj|private key|"
    rf"\bpass|session[-_]?id|{NAMES_OF_SECRETS}"
)


def mask_text(text: str) -> str:
    """The text with every secret in it hidden."""
    if not _HINT.search(text.casefold()):
        return text
    for shape in _SHAPES:
        text = shape.sub(_hide, text)
    return text


def mask(value: Any, name: str = "") -> Any:
    """A JSON value with its secrets hidden, at any depth."""
    if name and _NAMES.search(name) and value not in (None, "", True, False):
        return MASK
    if isinstance(value, dict):
        return {key: mask(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [mask(each) for each in value]
    return mask_text(value) if isinstance(value, str) else value


def _hide(found: re.Match[str]) -> str:
    return (found.groupdict().get("name") or "") + MASK
