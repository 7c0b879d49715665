"""What is asked, the statements behind it, and Postgres's plan of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.bench.api.population import Filled


def pages(of: Filled) -> dict[str, str]:
    """Lists, searches in lists, and statistics, by what they show."""
    collection, dataset = f"/api/collections/{of.collection}", f"/api/datasets/{of.dataset}"
    return {
        "collections": "/api/collections",
        "collections, the last hundred": "/api/collections?limit=100&offset=9900",
        "collections with a word in the title": "/api/collections/search?q=harbour",
        "collections, searched for what is not there": "/api/collections?search=nowhere",
        "files of the largest collection": f"{collection}/files?page_size=100",
        "failed files of it": f"{collection}/failed-files",
        "datasets": "/api/datasets",
        "datasets with a word in the title": "/api/datasets?search=harbour",
        "items of the largest dataset": f"{dataset}/items?page_size=20",
        "items, summaries": f"{dataset}/items-summary?page_size=100",
        "items with a word in the title": f"{dataset}/items-summary?search=file-77",
        "chunks of an item": f"{dataset}/items/{of.item}/chunks",
        "embedded datasets": "/api/embedded-datasets",
        "embedded datasets with a word in the title": "/api/embedded-datasets?search=harbour",
        "statistics of a collection transform": f"/api/collection-transforms/{of.collection_transform}/stats",
        "its processed files": f"/api/collection-transforms/{of.collection_transform}/processed-files",
        "statistics of a dataset transform": f"/api/dataset-transforms/{of.dataset_transform}/stats",
        "its batches": f"/api/dataset-transforms/{of.dataset_transform}/batches",
        "statistics of an embedded dataset": f"/api/embedded-datasets/{of.embedded_dataset}/stats",
        "jobs": "/api/jobs",
        "usage": "/api/usage",
    }


def calls(of: Filled) -> dict[str, str]:
    """Ten common calls, by what they do."""
    return {
        "list collections": "/api/collections",
        "read a collection": f"/api/collections/{of.collection + 5}",
        "search collections": "/api/collections/search?q=harbour",
        "list files": f"/api/collections/{of.collection + 5}/files",
        "list datasets": "/api/datasets",
        "list items": f"/api/datasets/{of.dataset}/items-summary",
        "read the chunks of an item": f"/api/datasets/{of.dataset}/items/{of.item}/chunks",
        "read a chunk": f"/api/chunks/{of.chunk}",
        "list embedders": "/api/embedders",
        "list jobs": "/api/jobs",
    }


def statements(client: FlaskClient, engine: Engine, path: str) -> list[str]:
    """The SQL that a request sends, with its values in it, as `exec_driver_sql` takes it."""
    with _listening(engine) as heard:
        answer = client.get(path)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return heard


def slowest(engine: Engine, sent: list[str]) -> str:
    """The plan of the statement that takes longest, with its times."""
    plans = {}
    with engine.connect() as connection:
        for statement in sent:
            started = time.perf_counter()
            lines = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}")
            plans[time.perf_counter() - started] = "\n".join(line for (line,) in lines)
    return plans[max(plans)]


@contextmanager
def _listening(engine: Engine) -> Iterator[list[str]]:
    heard: list[str] = []

    def hear(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        heard.append(cursor.mogrify(statement, parameters).decode().replace("%", "%%"))

    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(engine, "before_cursor_execute", hear)
