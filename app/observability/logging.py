"""Structured logs: one JSON object per line, with whatever the running request or job has bound.

configure("api", "INFO", "json")
with bound(request_id=…): …          # every line inside carries it
"""

from __future__ import annotations

import json
import logging
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, TextIO

from app.observability.redaction import MARK, is_harmless, is_secret_name, redact
from app.observability.tracing import current_ids

_FIELDS: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed in place
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = frozenset({"timestamp", "level", "message", "service", "version", "logger"})
# What the deployment guide's filter calls us, and what our packages are called.
_PRODUCT, _PACKAGES = "semantic_explorer", ("app", "tasks", "brokers")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_TREE = Path(__file__).resolve().parents[2]
_FIRST = ("timestamp", "level", "message", "service", "version", "request_id")
# Those that have a meaning everywhere, where there are any, in this order behind the first; then all others.
_THEN = (
    "trace_id", "span_id", "user", "tenant", "method", "route", "status", "duration_ms", "job_id", "kind",
    "stream", "delivery", "bulk_id", "event", "error",
)  # fmt: skip
_IDS = ("trace_id", "span_id", "user", "tenant", "job_id")  # kept of a line that is cut
_LINE_CHARACTERS = 16_384
_FEW_CHARACTERS, _FEWER_CHARACTERS = 2000, 1000  # of a field that is cut; one may take twelve in JSON
_PLAIN = frozenset({str, int, float, bool, type(None)})
_ENCODER = json.JSONEncoder(ensure_ascii=True, default=str)
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": logging.CRITICAL + 10,
}
_TARGET = re.compile(r"[A-Za-z_][\w.:]*")
# Libraries that write a line for each request they make; metrics and traces count those.
_CHATTY = ("httpx", "httpcore", "urllib3", "botocore", "tika.tika")
# Servers that bring handlers of their own; their lines are to look like ours.
_TAKEN_OVER = ("gunicorn.error", "gunicorn.access", "dramatiq", "werkzeug")


def configure(
    service: str,
    level: str | None = None,
    log_format: str = "json",
    stream: TextIO | None = None,
    *,
    directives: str = "",
) -> None:
    """Send all logs of this process to `stream` (stderr) as "json" or "text".

    `directives` is a filter such as `warn,semantic_explorer=info`: a level for all, and levels by logger,
    where `semantic_explorer` stands for our own. `level` goes before the filter's level for all. What cannot
    be read is said and left out.
    """
    handler = _LineHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter(service) if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Which no line says, and which each would be asked for.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name in _TAKEN_OVER:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)  # gunicorn has set its own, which the filter would not reach
    unread = [one for one in directives.split(",") if one.strip() and not _apply(one.strip())]
    if level is not None and not _apply(level):
        unread.append(level)
    _quieten(root.level)
    if unread:
        logging.getLogger(__name__).warning("cannot read these log filters, left out: %s", ", ".join(unread))


def bind(**fields: object) -> Token[Mapping[str, object]]:
    """Add fields to every line of this thread or task from here on; undo with `unbind(token)`."""
    return _FIELDS.set({**_FIELDS.get(), **fields})


def unbind(token: Token[Mapping[str, object]]) -> None:
    """Go back to the fields before the `bind` that returned `token`."""
    _FIELDS.reset(token)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Bind fields for a block."""
    token = bind(**fields)
    try:
        yield
    finally:
        unbind(token)


def bound_fields() -> Mapping[str, object]:
    """What is bound now."""
    return _FIELDS.get()


def fixed_fields() -> Mapping[str, str] | None:
    """What every line of this process says of itself; None where lines are text."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    return next((one.fixed for one in formatters if isinstance(one, _JsonFormatter)), None)


def product_version() -> str:
    """The installed version; where nothing is installed, that of the source tree, as in the image."""
    try:
        return package_version("semantic-explorer")
    except PackageNotFoundError:
        project = tomllib.loads((_TREE / "pyproject.toml").read_text())["project"]
        return str(project["version"])


def _apply(directive: str) -> bool:
    """Set one level; False for what is no directive. `target` alone means all that it says."""
    name, equals, word = (part.strip() for part in directive.rpartition("="))
    level = _LEVELS.get(word.lower())
    if level is None and not equals and _TARGET.fullmatch(word):
        name, level = word, logging.DEBUG
    if level is None or (equals and not _TARGET.fullmatch(name)):
        return False
    for logger in _loggers(name) if name else ("",):
        logging.getLogger(logger).setLevel(level)
    return True


def _quieten(least: int) -> None:
    """Hear of libraries that are chatty from warnings on, unless the filter names them."""
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(max(logging.WARNING, least))


def _loggers(target: str) -> tuple[str, ...]:
    """Names of the loggers that a target means: ours, or those of a library."""
    name = target.replace("::", ".")
    if name == _PRODUCT:
        return _PACKAGES
    return (f"app{name.removeprefix(_PRODUCT)}" if name.startswith(f"{_PRODUCT}.") else name,)


class _LineHandler(logging.StreamHandler[TextIO]):
    """Puts a record into words before it takes its turn at the stream, so that threads wait for less."""

    def handle(self, record: logging.LogRecord) -> bool:
        """As Handler does; the lock is held while the line is written, and no longer."""
        if not self.filter(record):
            return False
        try:
            line = self.format(record) + self.terminator
            self.acquire()
            try:
                self.stream.write(line)
                self.stream.flush()
            finally:
                self.release()
        except Exception:  # noqa: BLE001 - as logging has it: what cannot be told must not stop the work
            self.handleError(record)
        return True


class _JsonFormatter(logging.Formatter):
    """The documented fields first, then what is bound and what the call adds."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.fixed = {"service": service, "version": product_version()}

    def format(self, record: logging.LogRecord) -> str:
        if not (record.exc_info and record.exc_info[0]):
            text = _harmless(self._line(record, record.getMessage(), _given_fields(record)))
            if text is not None:
                return text
        fields = _extra_fields(record)
        if record.exc_info and record.exc_info[0]:
            fields["error"] = {
                "type": record.exc_info[0].__name__,
                "stack": redact(self.formatException(record.exc_info)),
            }
        return _bounded(self._line(record, redact(record.getMessage()), fields))

    def _line(self, record: logging.LogRecord, message: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "message": message,
            **self.fixed,
            "request_id": fields.pop("request_id", None),
            **{name: fields.pop(name) for name in _THEN if name in fields},
            "logger": record.name,
            **fields,
        }


class _TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        given = _given_fields(record)
        text = _as_text(record, record.getMessage(), given)
        is_short = len(text) <= _LINE_CHARACTERS and not record.exc_info
        if is_short and text.isprintable() and _may_be_harmless(given) and is_harmless(text):
            return text
        fields = {name: _printable(str(value)) for name, value in _extra_fields(record).items()}
        text = _as_text(record, _printable(redact(record.getMessage())), fields)
        if record.exc_info:
            text += "\n" + _printable(redact(self.formatException(record.exc_info)))
        return text


def _as_text(record: logging.LogRecord, message: str, fields: Mapping[str, object]) -> str:
    text = f"{_timestamp(record)[11:23]} {record.levelname:<7} {message}"
    return text + "  " + " ".join(f"{name}={value}" for name, value in fields.items()) if fields else text


def _printable(text: str) -> str:
    """Further lines are indented, so that none passes for a record; what moves a cursor is spelt out."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).replace("\n", "\n    ")


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _given_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What is bound and what the call adds, as it is."""
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    fields = {**_FIELDS.get(), **current_ids(), **given}
    return {name: value for name, value in fields.items() if name not in _OURS}


def _extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The same without secrets."""
    return {name: _safe(name, value) for name, value in _given_fields(record).items()}


def _safe(name: str, value: object) -> object:
    if is_secret_name(name):
        return MARK
    if isinstance(value, Mapping):
        return {str(key): _safe(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(name, inner) for inner in value]
    return value if isinstance(value, int | float | bool | None) else redact(str(value))


def _harmless(line: dict[str, Any]) -> str | None:
    """The line as JSON where nothing in it can be a secret: one look at the whole tells it of most."""
    if not _may_be_harmless(line):
        return None
    text = _dump(line)
    return text if len(text) <= _LINE_CHARACTERS and "\\u" not in text and is_harmless(text) else None


def _may_be_harmless(fields: Mapping[str, object]) -> bool:
    """Whether these are values of one piece under names that are no secrets'."""
    return not any(type(value) not in _PLAIN or is_secret_name(name) for name, value in fields.items())


def _bounded(line: dict[str, Any]) -> str:
    """One line of bounded length that is always valid JSON."""
    text = _dump(line)
    if len(text) <= _LINE_CHARACTERS:
        return text
    short = {name: _shortened(value) for name, value in line.items()}
    text = _dump({**short, "truncated": True})
    if len(text) <= _LINE_CHARACTERS:
        return text
    kept = {name: _shortened(line[name], _FEWER_CHARACTERS) for name in (*_FIRST, *_IDS) if name in line}
    return _dump({**kept, "truncated": True})


def _dump(line: dict[str, Any]) -> str:
    # ASCII only: control characters, line separators and lone surrogates cannot forge or break a line.
    return _ENCODER.encode(line)


def _shortened(value: object, most: int = _FEW_CHARACTERS) -> object:
    if isinstance(value, dict):
        return {name: _shortened(inner, most) for name, inner in value.items()}
    text = value if isinstance(value, str) else str(value)
    return value if len(text) <= most else text[: most // 2] + " … " + text[-most // 2 :]
