from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from app.api.schemas.bulk import Deletable, Triggerable
from app.container import Container
from app.services.items import PushedChunk, PushedItem
from tests.integration.api.conftest import BOB, Api
from tests.support.providers import EmbeddingServer

TEXT = b"# Tides\n\nThe tide rises twice a day.\n\n# Moons\n\nThe moon pulls at the sea.\n"


def test_every_kind_has_its_verb(container: Container):
    assert set(get_args(Deletable)) == set(container.services.bulk.deletes)
    assert set(get_args(Triggerable)) == set(container.services.bulk.triggers)


def test_each_of_many_stands_or_falls_alone(api: Api, container: Container, provider: EmbeddingServer):
    one, two = api.collection(), api.collection()
    bobs = container.services.collections.create(BOB, title="his").collection_id
    dataset, used = api.dataset(), api.embedder(provider)
    transforms = [api.collection_transform(key, dataset) for key in (one, two)]
    api.patch(f"/api/collection-transforms/{transforms[1]}", {"is_enabled": False})
    started = api.post("/api/bulk/trigger", {"kind": "collection-transforms", "ids": transforms})
    assert started["completed"] == transforms[:1]
    assert [(each["id"], each["code"]) for each in started["failed"]] == [(transforms[1], "invalid_input")]
    gone = api.post("/api/bulk/delete", {"kind": "collections", "ids": [one, bobs, two, one]})
    assert gone["completed"] == [one, two]
    assert [(each["id"], each["code"]) for each in gone["failed"]] == [(bobs, "not_found")]
    assert container.services.collections.get(BOB, bobs).title == "his"
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [used]}
    api.post("/api/dataset-transforms", body, 201)
    kept = api.post("/api/bulk/delete", {"kind": "embedders", "ids": [used]})
    assert kept["failed"][0]["code"] == "conflict"
    assert api.post("/api/bulk/delete", {"kind": "owners", "ids": [1]}, 400)["field"] == "kind"
    assert api.post("/api/bulk/trigger", {"kind": "collection-transforms", "ids": []}, 400)["field"] == "ids"


def test_files_and_items_are_deleted_by_their_own_ids(api: Api, container: Container):
    collection, dataset = api.collection(), api.dataset()
    files = [one["file_id"] for one in api.upload(collection, ("a.txt", b"a"), ("b.txt", b"b"))["completed"]]
    items = api.push(dataset, one=["1"], two=["2"], three=["3"])["item_ids"]
    his = container.services.datasets.create(BOB, title="his").dataset_id
    theirs = container.services.items.push(BOB, his, [PushedItem("x", [PushedChunk("y")])]).item_ids
    assert api.post("/api/bulk/delete", {"kind": "files", "ids": files})["completed"] == files
    gone = api.post("/api/bulk/delete", {"kind": "items", "ids": [*items[:2], *theirs]})
    assert (gone["completed"], [each["code"] for each in gone["failed"]]) == (items[:2], ["not_found"])
    assert api.get(f"/api/collections/{collection}")["file_count"] == 0
    assert api.get(f"/api/datasets/{dataset}")["item_count"] == 1
    assert container.services.items.get(BOB, theirs[0]).title == "x"
    assert api.client.delete(f"/api/datasets/{his}/items/{items[2]}").status_code == 404


def test_a_configuration_is_tried_before_anything_is_stored(api: Api):
    collection = api.collection()
    stored = api.upload(collection, ("tides.md", TEXT), ("bad.pdf", b"%PDF-1.7\nno PDF\n"))["completed"]
    path, bad = (f"/api/collections/{collection}/files/{file['key']}/preview" for file in stored)
    fine = api.post(path, {"chunk_size": 20, "job_config": {"chunking": {"chunk_overlap": 0}}, "limit": 1})
    assert fine["chunk_count"] > len(fine["chunks"])
    assert fine["character_count"] == len(fine["text"])
    (chunk,) = fine["chunks"]
    assert fine["text"][chunk["start_char"] : chunk["end_char"]] == chunk["content"]
    assert chunk["heading_path"] == ["Tides"]
    assert fine["job_config"]["chunking"]["chunk_size"] == 20
    assert api.post(path, {"job_config": {"chunking": {"strategy": "magic"}}}, 400)["field"]
    assert api.post(bad, {}, 422)["code"] == "unreadable_file"
    assert api.get("/api/datasets")["total_count"] == api.get("/api/jobs")["total_count"] == 0


def test_what_clients_of_the_original_say_of_code_and_tables_is_tried_as_they_say_it(api: Api):
    source = b"import os\n\n\nclass Tide:\n    def rise(self):\n        return os.name\n\n"
    source += b"    def fall(self):\n        pass\n"
    rows = "".join(f"{hour},high\n" for hour in range(9)).encode()
    collection = api.collection()
    stored = api.upload(collection, ("tide.py", source), ("tides.csv", b"hour,tide\n" + rows))["completed"]
    code, table = (f"/api/collections/{collection}/files/{file['key']}/preview" for file in stored)
    options = {"max_chunk_size": 60, "min_chunk_size": 10, "include_imports": False}
    chunking = {"strategy": "code_aware", "chunk_size": 200, "chunk_overlap": 0, "options": options}
    tried = api.post(code, {"job_config": {"chunking": chunking}})
    assert [(chunk["heading_path"], chunk["content"].split("(")[0]) for chunk in tried["chunks"]] == [
        (["Tide"], "class Tide:\n    def rise"),
        (["Tide", "fall"], "def fall"),
    ]
    known = {"strategy": "code", "chunk_size": 60, "include_imports": False, "preserve_comments": True}
    assert known.items() <= tried["job_config"]["chunking"].items()
    chunking = {"strategy": "table_aware", "options": {"max_rows_per_chunk": 4, "min_chunk_size": 0}}
    chunks = api.post(table, {"job_config": {"chunking": chunking}})["chunks"]
    assert [chunk["heading_path"] for chunk in chunks] == [[], ["hour | tide"], ["hour | tide"]]
    refused = {"strategy": "code", "options": {"include_headers": True}}
    answer = api.post(code, {"job_config": {"chunking": refused}}, 400)
    assert answer["field"] == "chunking.options.include_headers"


def test_usage_is_counted_per_owner(
    api: Api, container: Container, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    container.services.collections.create(BOB, title="his")
    api.upload(api.collection(), ("a.txt", b"12345"))
    dataset = api.dataset()
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    api.post("/api/dataset-transforms", body, 201)
    api.push(dataset, tides=["The tide rises.", "And falls."], moons=["The moon pulls."])
    work()
    mine = api.get("/api/usage")
    assert (
        mine
        | {
            "collections": 1,
            "files": 1,
            "file_bytes": 5,
            "datasets": 1,
            "items": 2,
            "chunks": 3,
            "embedded_datasets": 1,
            "vectors": 3,
            "vector_bytes": 3 * provider.dimensions * 4,
            "visualizations": 0,
            "active_jobs": 0,
        }
        == mine
    )
    owners = {each["owner_id"]: each for each in api.get("/api/usage/owners")["items"]}
    assert owners[mine["owner_id"]] == mine
    assert (owners["bob"]["collections"], owners["bob"]["vectors"]) == (1, 0)
