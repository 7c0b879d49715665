"""Looks past the product into its servers: which rows, objects, vectors and jobs are really there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.errors import NotFoundError
from app.storage.qdrant import VectorStore, VectorStoreOptions

# All that a request can leave behind, but jobs, which are history, and owners.
_TABLES = (
    "collections",
    "files",
    "datasets",
    "items",
    "chunks",
    "embedders",
    "collection_transforms",
    "dataset_transforms",
    "embedded_datasets",
    "visualization_transforms",
)


class Stores:
    """The servers that `environment` names; nothing is kept open."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def number(self, statement: str, *values: Any) -> int:
        """The number that a query answers with."""
        import psycopg2

        connection = psycopg2.connect(self._environment["DATABASE_URL"])
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                row = cursor.fetchone()
                assert row is not None
                return int(row[0])
        finally:
            connection.close()

    def rows(self) -> dict[str, int]:
        """Rows per table."""
        counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in _TABLES)
        return {
            table: self.number(f"SELECT {table} FROM (SELECT {counts}) AS all_counts") for table in _TABLES
        }

    def active_jobs(self, *, but: str = "") -> int:
        """Jobs that wait, run or will be retried, other than of the kind `but`."""
        return self.number(
            "SELECT count(*) FROM jobs WHERE state IN ('pending', 'running', 'retrying') AND kind <> %s", but
        )

    def dead_jobs(self) -> int:
        """Jobs that were given up."""
        return self.number("SELECT count(*) FROM jobs WHERE state = 'dead'")

    def objects(self) -> set[str]:
        """Keys of all stored objects."""
        import boto3

        client = boto3.client("s3", endpoint_url=self._environment["AWS_ENDPOINT_URL"], **self._credentials())
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._environment["S3_BUCKET_NAME"])
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def vectors(self, index: str) -> int | None:
        """Points of a vector index, None where there is no such index."""
        with self._vector_store() as store:
            try:
                return store.count(index)
            except NotFoundError:
                return None

    def wait_until_idle(self, *, but: str = "", seconds: float = 60) -> None:
        """Return when no job is active any more."""
        deadline = time.monotonic() + seconds
        while left := self.active_jobs(but=but):
            assert time.monotonic() < deadline, f"{left} jobs are still active after {seconds:.0f} s"
            time.sleep(0.1)

    def _credentials(self) -> dict[str, Any]:
        return {
            "aws_access_key_id": self._environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self._environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": self._environment["AWS_REGION"],
        }

    @contextmanager
    def _vector_store(self) -> Iterator[VectorStore]:
        store = VectorStore(VectorStoreOptions(url=self._environment["QDRANT_URL"], timeout_seconds=10))
        try:
            yield store
        finally:
            store.close()
