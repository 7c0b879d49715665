"""What is public can be grabbed by all; a copy belongs to whoever grabbed it, and keys stay behind."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import ConflictError, NotFoundError, TooLargeError
from app.services import grabbing
from app.services.items import PushedChunk, PushedItem
from app.services.uploads import Upload
from app.storage.postgres.tables import EmbedderRow, File, Item, LlmRow
from tests.integration.api.conftest import ADA, BOB, Api

KINDS = ("collections", "datasets", "embedders", "llms")


@pytest.fixture
def adas(container: Container) -> dict[str, int]:
    """One public thing of each kind of Ada's, and one private collection."""
    of = container.services
    collection = of.collections.create(ADA, title="Papers", tags=("a",), is_public=True).collection_id
    uploads = [Upload(f"{name}.txt", BytesIO(name.encode())) for name in ("one", "two")]
    of.files.upload(ADA, collection, uploads)
    dataset = of.datasets.create(ADA, title="Texts", is_public=True).dataset_id
    chunks = [PushedChunk("hello", {"k": [1]}), PushedChunk("you")]
    of.items.push(ADA, dataset, [PushedItem("greeting", chunks, {"m": "x"})])
    keyed = {"provider": "cohere", "api_key": "sk-ada", "is_public": True}
    of.collections.create(ADA, title="Secret")
    return {
        "collections": collection,
        "datasets": dataset,
        "embedders": of.embedders.create(ADA, {"name": "E", **keyed}).embedder_id,  # type: ignore[typeddict-item]
        "llms": of.llms.create(ADA, {"name": "L", **keyed}).llm_id,  # type: ignore[typeddict-item]
    }


def test_everybody_sees_what_is_public_and_no_keys(api: Api, adas: dict[str, int]):
    for kind in KINDS:
        page = api.get(f"/api/marketplace/{kind}")
        (row,) = page["collections" if kind == "collections" else "items"]
        assert adas[kind] in row.values()
        assert page["total_count"] == 1
        assert "sk-ada" not in str(page)
        assert api.get(f"/api/marketplace/{kind}/recent?limit=0")["total_count"] == 1
        assert api.get(f"/api/marketplace/{kind}/recent") == {**page, "limit": 5}
        api.get(f"/api/marketplace/{kind}?limit=201", 400)


def test_what_is_grabbed_is_a_private_copy_of_ones_own(api: Api, container: Container, adas: dict[str, int]):
    copies: dict[str, Any] = {
        kind: api.post(f"/api/marketplace/{kind}/{adas[kind]}/grab", status=201) for kind in KINDS
    }
    for kind, copy in copies.items():
        assert (copy["owner_id"], copy["is_public"]) == ("local", False)
        assert (copy.get("title") or copy["name"]).endswith("-grabbed")
        assert adas[kind] != copy.get(f"{kind[:-1]}_id")
    assert (copies["collections"]["file_count"], copies["collections"]["tags"]) == (2, ["a"])
    assert (copies["datasets"]["item_count"], copies["datasets"]["total_chunks"]) == (1, 2)
    assert (copies["embedders"]["has_api_key"], copies["llms"]["has_api_key"]) == (False, False)
    with container.database.transaction() as session:
        for table in (EmbedderRow, LlmRow):
            sealed = session.scalars(select(table.api_key_sealed).where(table.owner_id == "local")).all()
            assert sealed == [None]
        assert session.scalars(select(File.owner_id).where(File.owner_id != "ada")).all() == ["local"] * 2
        assert len(set(session.scalars(select(File.object_key)))) == 4


def test_a_copy_outlives_its_source(api: Api, container: Container, adas: dict[str, int]):
    of = container.services
    collection = api.post(f"/api/marketplace/collections/{adas['collections']}/grab", status=201)
    dataset = api.post(f"/api/marketplace/datasets/{adas['datasets']}/grab", status=201)
    of.datasets.delete(ADA, adas["datasets"])
    for file in of.files.list(ADA, adas["collections"]).files:
        with container.database.transaction() as session:
            container.blobs.delete([session.get_one(File, file.file_id).object_key])
    of.collections.delete(ADA, adas["collections"])
    path = f"/api/collections/{collection['collection_id']}/files"
    names = {file["name"]: file["file_id"] for file in api.get(path)["files"]}
    assert api.client.get(f"{path}/{names['one.txt']}").data == b"one"
    with container.database.transaction() as session:
        item = session.scalars(select(Item.item_id).where(Item.dataset_id == dataset["dataset_id"])).one()
    assert api.get(f"/api/items/{item}/text")["text"] == "hello\n\nyou"
    chunks = api.get(f"/api/datasets/{dataset['dataset_id']}/items/{item}/chunks")["chunks"]
    assert [(one["content"], one["metadata"]) for one in chunks] == [("hello", {"k": [1]}), ("you", {})]


def test_items_that_share_a_title_are_told_apart_in_a_copy(
    api: Api, container: Container, adas: dict[str, int]
):
    of = container.services
    with container.database.transaction() as session:
        file = session.scalars(select(File.file_id).where(File.owner_id == "ada")).first()
        row = session.scalars(select(Item)).one()
        row.file_id = file  # as a transform makes it: then titles need not differ
    of.items.push(ADA, adas["datasets"], [PushedItem("greeting", [PushedChunk("again")])])
    copy = of.grabbing.dataset(BOB, adas["datasets"])
    titles = [item.title for item in of.items.list(BOB, copy).items]
    assert titles == ["greeting", "greeting (2)"]
    api.get(f"/api/datasets/{copy}", 404)


def test_what_is_not_public_is_not_there(container: Container, adas: dict[str, int]):
    of = container.services
    hidden = {"is_public": False}
    of.collections.update(ADA, adas["collections"], hidden)  # type: ignore[arg-type]
    of.datasets.update(ADA, adas["datasets"], hidden)  # type: ignore[arg-type]
    of.embedders.update(ADA, adas["embedders"], hidden)  # type: ignore[arg-type]
    of.llms.update(ADA, adas["llms"], hidden)  # type: ignore[arg-type]
    for kind in KINDS:
        with pytest.raises(NotFoundError):
            getattr(of.grabbing, kind[:-1])(BOB, adas[kind])
        assert getattr(of, kind).public().total_count == 0
        assert getattr(of, kind).list(BOB).total_count == 0


def test_a_copy_that_cannot_be_whole_is_not_made(
    container: Container, adas: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    of = container.services
    with container.database.transaction() as session:
        key = session.scalars(select(File.object_key).order_by(File.file_id.desc())).first()
    container.blobs.delete([str(key)])
    with pytest.raises(ConflictError):
        of.grabbing.collection(BOB, adas["collections"])
    monkeypatch.setattr(grabbing, "MOST_CHUNKS", 1)
    with pytest.raises(TooLargeError):
        of.grabbing.dataset(BOB, adas["datasets"])
    assert of.collections.list(BOB).total_count == of.datasets.list(BOB).total_count == 0
