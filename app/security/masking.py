"""Hides what looks like a secret: values under telling names, and telling shapes within texts."""

from __future__ import annotations

import re
from typing import Any

MASK = "•••"
_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api[-_]?key|private[-_]?key|authorization|cookie|credential|"
    r"session[-_]?id|signature",
    re.IGNORECASE,
)
_SHAPES = (
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
        r"(?i)(?<![A-Za-z])(?P<name>[\w-]*(?:password|passwd|secret|token|api[-_]?key|signature)['\"]?\s*[=:]\s*)"
        r"(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&)}\]]+)"
    ),
)

# What one of the shapes begins with: most texts have nothing of it, and are looked at once instead of often.
_HINT = re.compile(
    r"://|bearer |basic |\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|hf|co)[-_]|AKIA|ASIA|eyJ|"
    r"password|passwd|secret|token|api[-_]?key|signature",
    re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """The text with every secret in it hidden."""
    if not _HINT.search(text):
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
