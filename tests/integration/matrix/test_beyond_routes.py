"""The wall between tenants where no address holds an id: neighbours in an index, events, jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import update

from app.events.types import StatusEvent
from app.jobs.contracts import CONTRACTS, Contract
from app.storage.postgres.tables import EmbeddedDataset, File, Job, Visualization
from tasks import collections, datasets, visualizations
from tests.integration.api.conftest import _work
from tests.integration.matrix.conftest import World
from tests.integration.matrix.tenants import Things
from tests.support.identity import PUBLIC_URL

HANDLERS = {**collections.handlers.entries, **datasets.handlers.entries, **visualizations.handlers.entries}


def index_of(world: World, of: Things) -> str:
    with world.container.database.transaction() as session:
        return session.get_one(EmbeddedDataset, of.ids["embedded_dataset_id"]).collection_name


@pytest.mark.parametrize("mode", ["chunks", "documents"])
@pytest.mark.parametrize("claimed", ["its true owner", "the owner of the index"])
def test_another_tenants_points_beside_the_query_are_not_found(world: World, mode: str, claimed: str):
    ada, bob = world.ada, world.bob
    vectors, index = world.container.vectors, index_of(world, bob)
    (point,) = vectors.scroll(index_of(world, ada), limit=1).points
    vector = vectors.get_vector(index, bob.ids["chunk_id"])
    owner = ada.owner_id if claimed == "its true owner" else bob.owner_id
    # Ada's passage, at the very place of Bob's own: whoever asks for its text meets hers first.
    vectors.upsert(index, [point.id], np.stack([vector]), [{**point.payload, "owner_id": owner}])
    query = {
        "query": f"hello {bob.mark}",
        "embedded_dataset_ids": [bob.ids["embedded_dataset_id"]],
        "search_mode": mode,
    }
    found = bob.person.send("POST", "/api/search", query)
    assert bob.mark in found.text
    assert ada.mark not in found.text
    assert str(ada.ids["chunk_id"]) not in found.text


def event(of: Things) -> StatusEvent:
    return StatusEvent(
        transform_type="collection",
        transform_id=of.ids["collection_transform_id"],
        resource_id=of.ids["collection_id"],
        owner_id=of.owner_id,
        status=of.mark,
        timestamp=datetime.now(UTC).isoformat(),
    )


@pytest.mark.parametrize("path", ["/api/events", "/api/collection-transforms/stream"])
def test_a_stream_tells_nothing_of_another_tenant(world: World, path: str):
    headers = {"Origin": PUBLIC_URL, **world.tenant.headers}
    answer = world.app.test_client(use_cookies=False).get(path, base_url=PUBLIC_URL, headers=headers)
    parts = (str(part) for part in answer.response)
    assert "event: connected" in next(parts)
    for of in (world.ada, world.bob):
        world.container.feed.publish(event(of))
    told = next(part for part in parts if "event: status" in part)
    assert world.bob.mark in told
    assert world.ada.mark not in told
    answer.close()


def arguments(world: World, of: Things) -> dict[str, Any]:
    """A value for every field that a contract may have, of this tenant's things."""
    ids = of.ids
    with world.container.database.transaction() as session:
        file = session.get_one(File, ids["file_key"])
        map_key = session.get_one(Visualization, ids["visualization_id"]).points_key
        return {
            **ids,
            "file_id": ids["file_key"],
            "file_version": file.version,
            "item_ids": (ids["item_id"],),
            "batch": "b",
            "keys": (file.object_key, map_key),
            "collection_name": index_of(world, of),
        }


def foreign(world: World) -> Iterator[Contract]:
    """Every contract with Ada's ids, and with each of them alone among Bob's."""
    theirs, own = arguments(world, world.ada), arguments(world, world.bob)
    for contract in CONTRACTS.values():
        names = [one.name for one in fields(contract)]
        missing = set(names) - set(theirs)
        assert missing == set(), f"{contract.__name__} has new fields: give values for them in arguments()"
        for mixed in (names, *([name] for name in names if theirs[name] != own[name])):
            yield contract(**{name: (theirs if name in mixed else own)[name] for name in names})


def test_no_job_of_ones_own_reaches_what_belongs_to_another(world: World):
    container = world.container
    with container.database.transaction() as session:  # what waits is not this test's to carry out
        session.execute(update(Job).where(Job.state == "pending").values(state="cancelled"))
    before = world.ada.rows(container)
    objects = {blob.key for blob in container.blobs.list("")}
    vectors = container.vectors.count(index_of(world, world.ada))
    dead = []
    for contract in foreign(world):
        with container.database.transaction() as session:
            session.execute(update(Job).where(Job.state == "pending").values(state="cancelled"))
            job_id = container.outbox.record(session, contract, owner_id=world.bob.owner_id)
        if run_once(world, job_id) == "dead":
            dead.append(contract.kind)
        assert world.ada.rows(container) == before, contract
        assert container.vectors.count(index_of(world, world.ada)) == vectors, contract
        assert (
            world.ada.mark
            not in world.bob.person.get(f"/api/datasets/{world.bob.ids['dataset_id']}/items").text
        ), contract
    assert objects <= {blob.key for blob in container.blobs.list("")}
    scoped = {kind for kind, contract in CONTRACTS.items() if contract.scope_kind}
    assert set(dead) == scoped


def run_once(world: World, job_id: UUID) -> str:
    """Carry the job out, and what follows from it; the state in which it ends."""
    services = world.container.services
    with world.container.database.transaction() as session:
        job = session.get_one(Job, job_id)
        kind, state = job.kind, job.state
    assert state == "pending"
    run = services.jobs.begin(job_id, "test")
    if run is not None:
        HANDLERS[kind].function(services, run, run.contract)
        list(_work(world.container))
    with world.container.database.transaction() as session:
        return session.get_one(Job, job_id).state
