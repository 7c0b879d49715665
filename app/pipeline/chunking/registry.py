"""The way into chunking: a configuration becomes a chunker."""

from __future__ import annotations

import importlib

from app.pipeline.chunking.base import Chunk, Chunker, Embed
from app.pipeline.chunking.config import ChunkingConfig, Strategy, parse_chunking_config

__all__ = ["STRATEGIES", "Chunk", "Chunker", "ChunkingConfig", "build", "parse_chunking_config"]

_HERE = "app.pipeline.chunking"
STRATEGIES: dict[Strategy, str] = {
    "recursive": f"{_HERE}.recursive:RecursiveChunker",
    "tokens": f"{_HERE}.tokens:TokenChunker",
    "sentences": f"{_HERE}.sentences:SentenceChunker",
    "markdown": f"{_HERE}.markdown:MarkdownChunker",
    "semantic": f"{_HERE}.semantic:SemanticChunker",
    "code": f"{_HERE}.code:CodeChunker",
    "tables": f"{_HERE}.tables:TableChunker",
}


def build(config: ChunkingConfig, embed: Embed | None = None) -> Chunker:
    """The chunker that a configuration asks for; serves any number of documents and threads.

    `embed` is what the strategy semantic compares sentences by; the others need none.
    """
    module, _, name = STRATEGIES[config.strategy].partition(":")
    needed = (config,) if config.semantic is None else (config, embed)
    chunker: Chunker = getattr(importlib.import_module(module), name)(*needed)
    return chunker
