"""A Tika server and a context that points at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.pipeline.document import Document
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.context import ExtractionContext, ExtractionLimits
from app.pipeline.extraction.registry import extract, open_source
from app.pipeline.sandbox import close_idle_children
from devstack.stack import Stack

Read = Callable[..., Document]


@pytest.fixture(autouse=True, scope="module")
def _no_children_left() -> Iterator[None]:
    yield
    close_idle_children()


@pytest.fixture
def read(stack: Stack) -> Read:
    """Return a function that detects and extracts a file, as the product does."""
    endpoint = stack.environment["TIKA_SERVER_ENDPOINT"]

    def run(path: Path, *, limits: ExtractionLimits | None = None, **config: Any) -> Document:
        context = ExtractionContext(endpoint, parse_extraction_config(config), limits or ExtractionLimits())
        return extract(open_source(path, path.name), context)

    return run
