"""Who pushes vectors chooses their ids: one that is another owner's passage leads to no text of it."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import select

from app.container import Container
from app.services.items import PushedChunk, PushedItem
from app.services.visualization_runs import _Work
from app.storage.postgres.tables import ChunkRow, EmbeddedDataset
from tests.integration.api.conftest import ADA, Api

SECRET = "nobody else reads this"


def pushed_as_adas(api: Api, container: Container) -> tuple[int, UUID]:
    """A standalone embedded dataset of the caller's with a point under the id of Ada's passage."""
    of = container.services
    dataset = of.datasets.create(ADA, title="Diary").dataset_id
    of.items.push(ADA, dataset, [PushedItem("today", [PushedChunk(SECRET)])])
    with container.database.transaction() as session:
        chunk = session.scalars(select(ChunkRow.chunk_id)).one()
    made = api.post("/api/embedded-datasets/standalone", {"title": "t", "dimensions": 2}, 201)
    key = int(made["embedded_dataset_id"])
    points = [{"id": str(one), "vector": [1, 2], "payload": {"text": "mine"}} for one in (chunk, uuid4())]
    api.post(f"/api/embedded-datasets/{key}/push-vectors", {"points": points})
    return key, chunk


def test_an_export_tells_what_was_pushed(api: Api, container: Container):
    key, _ = pushed_as_adas(api, container)
    text = api.client.get(f"/api/embedded-datasets/{key}/export").text
    assert SECRET not in text
    assert text.count("mine") >= 2


def test_a_map_names_its_topics_by_what_was_pushed(api: Api, container: Container):
    key, chunk = pushed_as_adas(api, container)
    with container.database.transaction() as session:
        row = session.get_one(EmbeddedDataset, key)
        index, owner_id = row.collection_name, row.owner_id
    work = object.__new__(_Work)
    for name, value in {"index": index, "owner_id": owner_id}.items():
        object.__setattr__(work, name, value)
    assert list(container.services.visualization_runs._texts(work, [chunk])) == ["mine"]
