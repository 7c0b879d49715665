"""How numbers, sizes, times, states and scores are said to people; registered as template filters."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

_SIZE_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_NOTHING = "\N{EN DASH}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400

MEDIA_NAMES = {
    "application/pdf": "PDF",
    "text/html": "HTML",
    "application/xhtml+xml": "HTML",
    "text/plain": "Text",
    "text/markdown": "Markdown",
    "text/csv": "CSV",
    "text/x-rst": "reStructuredText",
    "application/json": "JSON",
    "application/xml": "XML",
    "text/xml": "XML",
    "application/rtf": "RTF",
    "message/rfc822": "E-mail",
    "application/epub+zip": "EPUB",
    "application/zip": "ZIP",
    "application/msword": "Word",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "Word",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "Excel",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "PowerPoint",
    "application/vnd.oasis.opendocument.text": "ODT",
    "application/vnd.oasis.opendocument.spreadsheet": "ODS",
    "application/vnd.oasis.opendocument.presentation": "ODP",
}

LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi",
    "hu": "Hungarian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "la": "Latin", "nl": "Dutch",
    "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

STAGES = {
    "fetching vectors": "Reading vectors",
    "naming texts": "Reading passages",
    "checking": "Checking vectors",
    "neighbours": "Finding neighbours",
    "layout": "Laying out the map",
    "clusters": "Finding topics",
    "names": "Naming topics",
    "quality": "Measuring how far it can be trusted",
}


def number(value: float | None) -> str:
    """12345 as 12,345; nothing as a dash."""
    return _NOTHING if value is None else f"{value:,.0f}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """1 file, 2 files."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def size(value_bytes: float | None) -> str:
    """Bytes in the largest unit that keeps the number at least 1."""
    if value_bytes is None:
        return _NOTHING
    value, unit = float(value_bytes), 0
    while value >= 1000 and unit < len(_SIZE_UNITS) - 1:  # noqa: PLR2004 decimal units
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 10 else 1  # noqa: PLR2004 two significant digits are enough
    return f"{value:,.{digits}f} {_SIZE_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 40 s, 5 min, 2 h 10 min."""
    if seconds is None:
        return _NOTHING
    whole = math.ceil(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{round(whole / _MINUTE)} min"
    hours, minutes = divmod(round(whole / _MINUTE), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def speed(per_second: float, unit: str) -> str:
    """3.5 files/s, or 12 files/min where that says more."""
    value, time = (per_second, "s") if per_second >= 1 else (per_second * _MINUTE, "min")
    return f"{value:,.1f} {unit}/{time}" if value < 10 else f"{number(value)} {unit}/{time}"  # noqa: PLR2004


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago: just now, 5 minutes ago, yesterday, or the date."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{counted(int(seconds // _MINUTE), 'minute')} ago"
    if seconds < _DAY:
        return f"{counted(int(seconds // _HOUR), 'hour')} ago"
    if seconds < 2 * _DAY:
        return "yesterday"
    return f"{moment.day} {moment:%B %Y}"


def media(media_type: str | None) -> str:
    """A media type in a word or two."""
    if not media_type:
        return "Unknown"
    plain = media_type.split(";")[0].strip()
    return MEDIA_NAMES.get(plain, plain.rsplit("/", 1)[-1].removeprefix("x-").split("+")[0])


def language(code: str | None) -> str:
    """The English name of a language, or its code."""
    return LANGUAGES.get(code, code) if code else ""


def strength(score: float) -> str:
    """A cosine similarity in words; the bounds are those at which MiniLM-like models change meaning."""
    for bound, words in ((0.6, "strong match"), (0.45, "good match"), (0.3, "related")):
        if score >= bound:
            return words
    return "weak match"


def trust(quality: dict[str, Any]) -> str:
    """A map's figures in words: near points are alike; how many of the truly nearest are near."""
    if "trustworthiness" not in quality:
        return "not measured"
    value = float(quality["trustworthiness"])
    for bound, words in ((0.95, "faithful map"), (0.85, "fair map")):
        if value >= bound:
            return words
    return "rough map"


def stage(name: str | None) -> str:
    """What a map run does now."""
    if not name:
        return "Waiting for a worker"
    return STAGES.get(name, name.replace("_", " ").capitalize())


FILTERS = {
    "number": number,
    "counted": counted,
    "size": size,
    "duration": duration,
    "speed": speed,
    "ago": ago,
    "media": media,
    "language": language,
    "strength": strength,
    "stage": stage,
    "trust": trust,
}
