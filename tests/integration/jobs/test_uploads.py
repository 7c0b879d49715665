from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.container import Container
from app.errors import UnavailableError
from app.jobs.contracts import DeleteObjects
from app.security.principal import Principal
from app.services.uploads import Upload
from app.storage.postgres.session import Database
from app.storage.postgres.tables import File, Job
from tasks import collections as collections_pool
from tests.support.domain import World


class Flaky:
    """A database whose connection breaks around the commit that writes the file."""

    def __init__(self, database: Database, *, committed: bool) -> None:
        self._database, self._committed = database, committed

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._database.transaction() as session:
            yield session
            breaks = any(isinstance(row, File) for row in session.identity_map.values())
            if breaks and not self._committed:
                raise UnavailableError("Postgres: the server closed the connection")
        if breaks:
            raise UnavailableError("Postgres: the server closed the connection")


@pytest.mark.parametrize("committed", [True, False])
def test_an_upload_whose_commit_got_no_answer_keeps_exactly_what_was_committed(
    container: Container, world: World, committed: bool
):
    files: Any = container.services.files
    flaky = replace(files, database=Flaky(container.database, committed=committed))
    collection = world.collection()
    with pytest.raises(UnavailableError):
        flaky.upload(Principal("ada", "Ada"), collection, [Upload("a.txt", BytesIO(b"some text"))])
    sweep(container)
    with container.database.transaction() as session:
        rows = list(session.scalars(select(File.object_key)))
    assert len(rows) == committed
    assert [blob.key for blob in container.blobs.list("files/")] == rows


def sweep(container: Container) -> None:
    with container.database.transaction() as session:
        waiting = session.scalars(select(Job.job_id).where(Job.kind == DeleteObjects.kind)).all()
    for job_id in waiting:
        run = container.services.jobs.begin(job_id, "test")
        assert run is not None
        collections_pool.delete_objects(container.services, run, run.contract)
