"""What a configuration would make of one file: extraction and chunking, and nothing is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from app.errors import InvalidInputError, TooLargeError
from app.pipeline.chunking.base import Chunk
from app.pipeline.document import Document
from app.pipeline.extraction.base import SourceFile
from app.pipeline.remote import within
from app.security.principal import Principal
from app.services.extraction_runs import BuildChunker, ReadDocument
from app.services.files import Files

MOST_BYTES = 20 * 1024 * 1024
MOST_CHUNKS = 200
_TEXT_SHOWN = 20_000
_EMBEDDING_SECONDS = 30.0

CheckJobConfig = Callable[[Mapping[str, Any], int | None], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PreviewChunk:
    """A passage that would be made."""

    position: int
    content: str
    start_char: int
    end_char: int
    token_count: int
    page: int | None
    heading_path: list[str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be made: counts of the whole file, the beginning of its text, its first passages."""

    title: str
    media_type: str
    language: str | None
    page_count: int | None
    character_count: int
    text: str
    metadata: dict[str, str]
    warnings: list[str]
    chunk_count: int
    token_count: int
    chunks: list[PreviewChunk]
    job_config: dict[str, Any]  # as it was understood, with every default


@dataclass(frozen=True, slots=True)
class Previews:
    """Verbs on previews.

    `check` completes a `job_config`; `read` and `build_chunker` take its parts, the latter after the owner.
    """

    files: Files
    check: CheckJobConfig
    read: ReadDocument
    build_chunker: BuildChunker
    scratch_dir: Path | None = None

    def preview(
        self,
        principal: Principal,
        collection_id: int,
        file_id: int,
        *,
        job_config: Mapping[str, Any],
        chunk_size: int | None = None,
        limit: int = 20,
    ) -> Preview:
        """Read and cut a file as a transform with that configuration would.

        Raises NotFoundError, InvalidInputError, TooLargeError beyond 20 MiB, UnreadableFileError,
        UnsupportedTypeError and UnavailableError. Where chunking embeds, only the beginning is cut, for half
        a minute at most, and it raises what an embedder raises.
        """
        if not 1 <= limit <= MOST_CHUNKS:
            raise InvalidInputError(f"limit must lie between 1 and {MOST_CHUNKS}", field="limit")
        config = dict(self.check(job_config, chunk_size))
        file = self.files.open(principal, collection_id, file_id)
        if file.size_bytes > MOST_BYTES:
            raise TooLargeError(f"a preview reads files of at most {MOST_BYTES} bytes: this has more")
        with tempfile.TemporaryDirectory(prefix="preview-", dir=self.scratch_dir) as folder:
            path = Path(folder) / "source"
            with file.open(None) as stream:
                path.write_bytes(stream.read())
            source = SourceFile(path=path, name=file.name, media_type=file.media_type)
            document = self.read(source, config["extraction"])
        chunker = self.build_chunker(principal.owner_id, config["chunking"])
        if "semantic" in config["chunking"]:
            document = _beginning(document)
        with within(_EMBEDDING_SECONDS):
            chunks = list(chunker.chunk(document))
        return Preview(
            title=document.title or file.name,
            media_type=document.media_type,
            language=document.language,
            page_count=document.page_count,
            character_count=len(document.text),
            text=document.text[:_TEXT_SHOWN],
            metadata=dict(document.metadata),
            warnings=list(document.warnings),
            chunk_count=len(chunks),
            token_count=sum(chunk.token_count for chunk in chunks),
            chunks=[_shown(position, chunk) for position, chunk in enumerate(islice(chunks, limit))],
            job_config=config,
        )


def _beginning(document: Document) -> Document:
    """As much as is shown: to embed more would cost time and a provider's price for nothing."""
    if len(document.text) <= _TEXT_SHOWN:
        return document
    warning = f"only the first {_TEXT_SHOWN:,} characters were cut, and counted, for the preview"
    blocks = tuple(block for block in document.blocks if block.end <= _TEXT_SHOWN)
    return replace(
        document, text=document.text[:_TEXT_SHOWN], blocks=blocks, warnings=(*document.warnings, warning)
    )


def _shown(position: int, chunk: Chunk) -> PreviewChunk:
    return PreviewChunk(
        position=position,
        content=chunk.text,
        start_char=chunk.start,
        end_char=chunk.end,
        token_count=chunk.token_count,
        page=chunk.page,
        heading_path=list(chunk.heading_path),
    )
