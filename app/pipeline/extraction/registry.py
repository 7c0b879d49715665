"""The way into extraction: which files are read, what a file is, and its document."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ExplorerError, TooLargeError, UnreadableFileError, UnsupportedTypeError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import finish
from app.pipeline.extraction.base import Extractor, SourceFile
from app.pipeline.extraction.context import ExtractionContext, UnpackBudget
from app.pipeline.extraction.detection import detect
from app.pipeline.extraction.formats import BY_MEDIA_TYPE, FORMATS

__all__ = ["SupportedType", "detect", "extract", "open_source", "supported_types"]


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupportedType:
    """A row of the table of formats, as shown to people."""

    media_type: str
    label: str
    extensions: tuple[str, ...]  # without dot
    reader: str  # "Tika server" or the name of our own reader


def supported_types() -> list[SupportedType]:
    """Every type that can be read, for upload hints, allow-lists and the table in the docs."""
    return [
        SupportedType(row.media_type, row.label, row.extensions, _reader(row.implementation))
        for row in FORMATS
    ]


def _reader(implementation: str) -> str:
    module = implementation.partition(":")[0].rpartition(".")[2]
    return module.replace("_", " ").capitalize()


def open_source(path: Path, name: str) -> SourceFile:
    """A file with its detected type; raises what `detect` raises."""
    return SourceFile(path=path, name=name, media_type=detect(path, name))


def extract(source: SourceFile, context: ExtractionContext) -> Document:
    """Read a file of any supported type into a document.

    Raises UnreadableFileError, UnsupportedTypeError, TooLargeError (permanent, words for the user) or
    UnavailableError (Tika is away: try again).
    """
    size = source.path.stat().st_size
    if size == 0:
        raise UnreadableFileError(f"{source.name} is empty (0 bytes)", field="file")
    if size > context.limits.file_bytes:
        raise TooLargeError(
            f"{source.name} has {size} bytes; the limit is {context.limits.file_bytes // 2**20} MiB per file",
            field="file",
        )
    if context.budget is None:
        context = replace(context, budget=UnpackBudget(context.limits))
    document = _read(source, context)
    return finish(document, context.config, context.limits, source.name)


def _read(source: SourceFile, context: ExtractionContext) -> Document:
    try:
        return _extractor(source, context).extract(source)
    except (ExplorerError, OSError, MemoryError):  # the last two are this machine's fault, not the file's
        raise
    except Exception as error:
        # A parser that a strange file makes stumble: this file fails, with its cause, and no other.
        _log.warning("A reader stumbled over a file of type %s", source.media_type, exc_info=True)
        raise UnreadableFileError(
            f"{source.name} could not be read ({type(error).__name__}: {error})", field="file"
        ) from error


def _extractor(source: SourceFile, context: ExtractionContext) -> Extractor:
    row = BY_MEDIA_TYPE.get(source.media_type)
    if row is None:
        raise UnsupportedTypeError(
            f"{source.name}: files of type {source.media_type} cannot be read", field="file"
        )
    module, _, name = row.implementation.partition(":")
    extractor: Extractor = getattr(importlib.import_module(module), name)(context)
    return extractor
