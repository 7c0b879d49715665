"""Reads the files inside a file (archive members, attachments) and puts them into one document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from app.errors import PermanentError, UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction import registry
from app.pipeline.extraction.characters import clean
from app.pipeline.extraction.config import ExtractionConfig
from app.pipeline.extraction.context import ExtractionContext, UnpackBudget

_BLOCK_BYTES = 256 * 1024
_NAME_CHARACTERS = 200


class LimitReachedError(UnreadableFileError):
    """Unpacking stopped at a limit: the whole upload fails, not one member."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside another. `open` gives its bytes, unpacked."""

    name: str
    packed_bytes: int
    open: Callable[[], IO[bytes]]


@dataclass(slots=True)
class MemberReader:
    """Extracts members one after the other through one temporary file."""

    context: ExtractionContext
    warnings: list[str] = field(default_factory=list)

    def read_all(self, members: Iterator[Member]) -> list[tuple[str, Document]]:
        """Name and document of each readable member; the others end up in `warnings`.

        Raises UnreadableFileError past a limit and UnavailableError when Tika is away.
        """
        documents = []
        with TemporaryDirectory(prefix="member-") as folder:
            for member in members:
                document = self._read(member, Path(folder) / "member")
                if document is not None:
                    documents.append((label(member.name), document))
        return documents

    def _read(self, member: Member, target: Path) -> Document | None:
        budget = self._budget()
        _limited(budget.count_member)
        name = label(member.name)
        try:
            _unpack(member, target, budget)
            source = registry.open_source(target, name)
            document = registry.extract(source, self._inner_context())
        except LimitReachedError:
            raise
        except PermanentError as error:
            self.warnings.append(error.message if name in error.message else f"{name}: {error.message}")
            return None
        self.warnings += [f"{name}: {warning}" for warning in document.warnings]
        return document

    def _budget(self) -> UnpackBudget:
        return self.context.budget or UnpackBudget(self.context.limits)

    def _inner_context(self) -> ExtractionContext:
        depth = self.context.depth + 1
        if depth > self.context.limits.archive_depth:
            raise UnreadableFileError(
                f"nested more than {self.context.limits.archive_depth} levels deep, which is the limit"
            )
        return replace(self.context, config=_without_metadata_section(self.context.config), depth=depth)


def _without_metadata_section(config: ExtractionConfig) -> ExtractionConfig:
    options = config.options.model_copy(update={"append_metadata_to_text": False})
    return config.model_copy(update={"options": options})


def _limited(count: Callable[..., None], *args: int) -> None:
    try:
        count(*args)
    except UnreadableFileError as error:
        raise LimitReachedError(error.message, field="file") from error


def _unpack(member: Member, target: Path, budget: UnpackBudget) -> None:
    """Stream to `target`, counting as bytes arrive: declared sizes may lie."""
    size = 0
    try:
        with member.open() as packed, target.open("wb") as file:
            while block := packed.read(_BLOCK_BYTES):
                size += len(block)
                _limited(budget.count_bytes, len(block), size, member.packed_bytes)
                file.write(block)
    except LimitReachedError:
        raise
    except RuntimeError as error:  # zipfile's way to say "encrypted"
        raise UnreadableFileError(f"is password-protected ({error})") from error
    except Exception as error:  # zlib, lzma, tarfile and zipfile each raise their own kinds
        raise UnreadableFileError(f"is damaged ({error})") from error


def label(name: str) -> str:
    """A member's name for people: relative, without control characters, bounded. Never used as a path."""
    parts = [part for part in clean(name).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return " ".join("/".join(parts).split())[-_NAME_CHARACTERS:] or "unnamed"
