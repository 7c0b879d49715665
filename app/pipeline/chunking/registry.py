"""The way into chunking: a configuration becomes a chunker."""

from __future__ import annotations

import importlib

from app.pipeline.chunking.base import Chunk, Chunker
from app.pipeline.chunking.config import ChunkingConfig, Strategy, parse_chunking_config

__all__ = ["STRATEGIES", "Chunk", "Chunker", "ChunkingConfig", "build", "parse_chunking_config"]

_HERE = "app.pipeline.chunking"
STRATEGIES: dict[Strategy, str] = {
    "recursive": f"{_HERE}.recursive:RecursiveChunker",
    "tokens": f"{_HERE}.tokens:TokenChunker",
    "sentences": f"{_HERE}.sentences:SentenceChunker",
    "markdown": f"{_HERE}.markdown:MarkdownChunker",
    "code": f"{_HERE}.code:CodeChunker",
    "tables": f"{_HERE}.tables:TableChunker",
}


def build(config: ChunkingConfig) -> Chunker:
    """The chunker that a configuration asks for; serves any number of documents and threads."""
    module, _, name = STRATEGIES[config.strategy].partition(":")
    chunker: Chunker = getattr(importlib.import_module(module), name)(config)
    return chunker
