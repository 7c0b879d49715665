"""Office documents, books and everything else that Apache Tika reads, over the `tika` client.

Asks for XHTML, so that headings, lists, tables, sheets and slides survive.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from app.errors import UnavailableError, UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element
from app.pipeline.extraction.markup import elements_of, local_name

_OK, _NO_CONTENT, _UNPROCESSABLE, _TOO_LARGE, _SERVER_ERRORS = 200, 204, 422, 413, 500
_BUSY = (408, 429)
_WAIT_SECONDS = 10.0  # on top of the time that parsing may take; also the limit for connecting
_PING_SECONDS = 2.0
_PREFIXES = (
    "dc:",
    "dcterms:",
    "meta:",
    "cp:",
    "Message-",
    "extended-properties:Application",
    "xmpTPg:NPages",
)
_ENCRYPTED = ("encrypteddocument", "password")
_import_lock = threading.Lock()


class TikaExtractor:
    """Sends the file to the Tika server at `context.tika_endpoint`."""

    def __init__(self, context: ExtractionContext) -> None:
        self._endpoint = context.tika_endpoint.rstrip("/")
        self._limits = context.limits
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnavailableError when Tika is away, slow or broken, UnreadableFileError for a bad file."""
        parts = self._ask(source)
        elements: list[Element] = []
        warnings: list[str] = []
        for part in parts:
            content = part.get("X-TIKA:content")
            name = _first(part.get("resourceName")) or _first(part.get("X-TIKA:embedded_resource_path"))
            found = xhtml_elements(content) if isinstance(content, str) else []
            if part is not parts[0] and found:
                elements.append(Element("heading", str(name or "Embedded document"), level=1))
            elements += found
            warnings += _warnings(part, name)
        metadata = _metadata(parts[0])
        return from_elements(
            elements,
            self._rendering,
            media_type=source.media_type,
            title=_first(parts[0].get("dc:title")),
            page_count=_page_count(parts[0], elements),
            metadata=metadata,
            warnings=warnings,
        )

    def _ask(self, source: SourceFile) -> Sequence[Mapping[str, Any]]:
        """The container's entry first, then one per embedded document."""
        status, body = self._put(source)
        if status == _UNPROCESSABLE:
            raise UnreadableFileError(_refusal(source.name, body), field="file")
        if status == _TOO_LARGE:
            raise UnreadableFileError(f"{source.name} is larger than the Tika server accepts", field="file")
        if status in _BUSY or status >= _SERVER_ERRORS:
            raise UnavailableError(f"Tika at {self._endpoint} answered {status} for {source.name}")
        if status not in (_OK, _NO_CONTENT):
            raise UnreadableFileError(f"Tika refused {source.name} with status {status}", field="file")
        try:
            parts = json.loads(body) if body else []
        except ValueError as error:
            raise UnavailableError(f"Tika at {self._endpoint} gave an answer that is no JSON") from error
        if not isinstance(parts, list) or not parts:
            raise UnreadableFileError(f"{source.name} holds no text", field="file")
        _raise_if_failed(source.name, parts[0])
        return parts

    def _put(self, source: SourceFile) -> tuple[int, str]:
        parser = _client()
        seconds = self._limits.timeout_seconds + _WAIT_SECONDS
        # Only the extension goes along, as a hint: names are the user's business.
        suffix = "".join(char for char in PurePosixPath(source.name).suffix if char.isalnum())
        try:
            with source.path.open("rb") as file:
                status, body = parser.from_buffer(
                    file,
                    self._endpoint,
                    xmlContent=True,
                    headers={"Content-Disposition": f"attachment; filename=upload.{suffix or 'bin'}"},
                    requestOptions={"timeout": (_WAIT_SECONDS, seconds), "verify": True},
                    raw_response=True,
                )
        except OSError as error:  # requests' exceptions are OSErrors
            raise UnavailableError(
                f"Tika at {self._endpoint} does not answer: {type(error).__name__}"
            ) from error
        return int(status), str(body)


def _client() -> Any:
    """The client's parser module, which reads its settings from the environment when first imported."""
    import os
    import sys

    with _import_lock:
        if "tika.tika" not in sys.modules:
            os.environ["TIKA_CLIENT_ONLY"] = "1"  # noqa: TID251 - never fetch or start a server
            os.environ["TIKA_LOG_FILE"] = ""  # noqa: TID251 - never write a log file into the temp folder
        from tika import parser
        from tika import tika as settings

        settings.TikaClientOnly = True
        logging.getLogger("tika.tika").setLevel(logging.ERROR)  # it warns about every status that we handle
    return parser


def ping(endpoint: str) -> None:
    """Ask the server for its version; raises UnavailableError."""
    import urllib.request

    try:
        # The operator's address, whose scheme app.config has checked.
        with urllib.request.urlopen(f"{endpoint.rstrip('/')}/version", timeout=_PING_SECONDS):  # noqa: S310
            pass
    except OSError as error:
        raise UnavailableError(f"Tika at {endpoint} does not answer: {error}") from error


def xhtml_elements(content: str) -> list[Element]:
    """Structure of one document as Tika wrote it down."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, huge_tree=True)
    root = etree.fromstring(clean(content).encode(), parser) if content.strip() else None
    if root is None:
        return []
    bodies = [node for node in root.iter() if local_name(node) == "body"]
    return list(elements_of(bodies[0] if bodies else root))


def _refusal(name: str, body: str) -> str:
    if any(word in body.lower() for word in _ENCRYPTED):
        return f"{name} is password-protected. Remove the password and upload it again."
    return f"{name} is damaged or not what its name says; Tika cannot read it"


def _raise_if_failed(name: str, container: Mapping[str, Any]) -> None:
    """/rmeta answers 200 with an exception in the metadata when the container itself cannot be parsed."""
    failure = _first(container.get("X-TIKA:EXCEPTION:container_exception")) or _first(
        container.get("X-TIKA:EXCEPTION:runtime")
    )
    encrypted = _first(container.get("X-TIKA:EXCEPTION:EncryptedDocumentException"))
    has_text = bool(container.get("X-TIKA:content"))
    if encrypted or (failure and (not has_text or "EncryptedDocument" in failure)):
        raise UnreadableFileError(_refusal(name, "password" if encrypted else failure or ""), field="file")


def _warnings(part: Mapping[str, Any], name: str | None) -> list[str]:
    found = []
    if part.get("X-TIKA:EXCEPTION:write_limit_reached"):
        found.append("The text is longer than the Tika server's limit; the rest is missing")
    if part.get("X-TIKA:EXCEPTION:embedded_exception"):
        found.append(f"The embedded document {name or 'without a name'} could not be read")
    return found


def _first(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def _metadata(container: Mapping[str, Any]) -> dict[str, str]:
    """The descriptive part of Tika's metadata, several values joined by commas."""
    wanted = (key for key in sorted(container) if key.startswith(_PREFIXES))
    values = ((key, container[key]) for key in wanted)
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values
    }


def _page_count(container: Mapping[str, Any], elements: Sequence[Element]) -> int | None:
    for key in ("xmpTPg:NPages", "meta:page-count", "meta:slide-count", "Page-Count", "Slide-Count"):
        value = _first(container.get(key))
        if value and value.isdigit() and int(value) > 0:
            return int(value)
    return max((element.page for element in elements if element.page), default=None)
