from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.services.uploads import Upload
from tests.integration.api.conftest import ADA, Api
from tests.support.domain import Recorder

TEXT = b"The tide rises twice a day.\n\nThe moon pulls at the sea.\n"
TOO_MUCH = 2 * 1024 * 1024 + 1


def test_an_uploaded_file_is_listed_downloaded_and_deleted(api: Api, client: FlaskClient):
    key = api.collection()
    outcome = api.upload(key, ("tide.txt", TEXT))
    assert [row["name"] for row in outcome["completed"]] == ["tide.txt"]
    (row,) = api.get(f"/api/collections/{key}/files")["files"]
    assert (row["name"], row["size"], row["state"]) == ("tide.txt", len(TEXT), "stored")
    download = client.get(f"/api/collections/{key}/files/{row['key']}")
    assert download.data == TEXT
    assert download.headers["Content-Disposition"].startswith('attachment; filename="tide.txt"')
    assert download.headers["X-Content-Type-Options"] == "nosniff"
    api.delete(f"/api/collections/{key}/files/{row['key']}")
    assert api.get(f"/api/collections/{key}/files")["files"] == []


def test_one_refused_file_leaves_the_others_alone(api: Api):
    key = api.collection()
    outcome = api.upload(
        key, ("empty.txt", b""), ("good.txt", TEXT), ("big.txt", b"x" * (2 * 1024 * 1024 + 1))
    )
    assert [row["name"] for row in outcome["completed"]] == ["good.txt"]
    failed = {row["name"]: row for row in outcome["failed"]}
    assert failed["empty.txt"]["code"] == "unreadable_file"
    assert failed["big.txt"]["code"] == "too_large"
    assert "2 MiB" in failed["big.txt"]["error"]


def test_a_name_that_lies_about_its_content_is_refused(api: Api):
    key = api.collection()
    outcome = api.upload(key, ("picture.pdf", b"\x7fELF\x02\x01\x01" + bytes(64)))
    assert outcome["completed"] == []
    assert outcome["failed"][0]["code"] == "unsupported_type"


@pytest.mark.parametrize("name", ["../../etc/passwd.txt", "/passwd.txt", "a/b/passwd.txt"])
def test_a_path_in_the_name_is_only_its_last_part(api: Api, name: str):
    key = api.collection()
    api.upload(key, (name, TEXT))
    (row,) = api.get(f"/api/collections/{key}/files")["files"]
    assert row["name"] == "passwd.txt"


def test_the_same_bytes_again_change_nothing_and_other_bytes_make_a_version(
    api: Api, objects: Callable[[], int], work: Callable[[], list[str]]
):
    key = api.collection()
    first = api.upload(key, ("a.txt", TEXT))["completed"][0]
    again = api.upload(key, ("a.txt", TEXT))["completed"][0]
    assert (again["unchanged"], again["version"]) == (True, 1)
    edited = api.upload(key, ("a.txt", TEXT + b"More.\n"))["completed"][0]
    assert (edited["file_id"], edited["version"]) == (first["file_id"], 2)
    assert objects() == 2
    assert work() == ["delete_objects"]
    assert objects() == 1


def test_an_upload_plans_the_enabled_transforms_of_its_collection(api: Api, recorder: Recorder):
    key, dataset = api.collection(), api.dataset()
    api.collection_transform(key, dataset)
    disabled = api.collection_transform(key, dataset)
    api.patch(f"/api/collection-transforms/{disabled}", {"is_enabled": False})
    recorder.sent.clear()
    api.upload(key, ("a.txt", TEXT))
    # The plan of the creation still waits: it will see this file too.
    assert recorder.kinds() == []
    (row,) = api.get(f"/api/collections/{key}/files")["files"]
    assert row["state"] == "pending"


def test_the_state_of_a_file_follows_its_extraction(api: Api, work: Callable[[], list[str]]):
    key, dataset = api.collection(), api.dataset()
    api.collection_transform(key, dataset)
    api.upload(key, ("good.txt", TEXT), ("bad.pdf", b"%PDF-1.7\nthis is not a PDF\n"))
    work()
    states = {row["name"]: row for row in api.get(f"/api/collections/{key}/files")["files"]}
    assert states["good.txt"]["state"] == "succeeded"
    assert states["good.txt"]["chunk_count"] >= 1
    assert states["bad.pdf"]["state"] == "failed"
    assert states["bad.pdf"]["error"]
    (failed,) = api.get(f"/api/collections/{key}/failed-files")["items"]
    assert failed["name"] == "bad.pdf"
    counts = api.get(f"/api/collections/{key}/progress")
    assert (counts["succeeded"], counts["failed"]) == (1, 1)


def test_deleting_a_file_takes_its_items_and_objects(
    api: Api, objects: Callable[[], int], work: Callable[[], list[str]]
):
    key, dataset = api.collection(), api.dataset()
    api.collection_transform(key, dataset)
    file_key = api.upload(key, ("good.txt", TEXT))["completed"][0]["key"]
    work()
    assert api.get(f"/api/datasets/{dataset}")["item_count"] == 1
    api.delete(f"/api/collections/{key}/files/{file_key}")
    work()
    assert api.get(f"/api/datasets/{dataset}")["item_count"] == 0
    assert objects() == 0


def test_pages_of_files_follow_a_token(api: Api):
    key = api.collection()
    api.upload(key, *((f"{letter}.txt", TEXT) for letter in "cab"))
    first = api.get(f"/api/collections/{key}/files?page_size=2")
    assert [row["name"] for row in first["files"]] == ["a.txt", "b.txt"]
    assert (first["total_count"], first["has_more"], first["page"]) == (3, True, 1)
    token = first["continuation_token"]
    second = api.get(f"/api/collections/{key}/files?page_size=2&continuation_token={token}")
    assert [row["name"] for row in second["files"]] == ["c.txt"]
    assert (second["has_more"], second["continuation_token"], second["total_count"]) == (False, None, None)
    wrong = api.get(f"/api/collections/{key}/files?continuation_token=%21", 400)
    assert wrong["field"] == "continuation_token"


def test_an_upload_without_files_says_what_is_missing(api: Api):
    assert api.upload(api.collection(), status=400)["field"] == "files"


def test_allowed_types_come_from_the_extractors(api: Api):
    assert "application/pdf" in api.get("/api/collections-allowed-file-types")
    details = api.get("/api/collections-allowed-file-types?details=true")
    assert "pdf" in next(row for row in details if row["media_type"] == "application/pdf")["extensions"]


def test_deleting_a_collection_leaves_no_object(
    api: Api, objects: Callable[[], int], work: Callable[[], list[str]]
):
    key, dataset = api.collection(), api.dataset()
    api.collection_transform(key, dataset)
    api.upload(key, *((f"{number}.txt", TEXT + str(number).encode()) for number in range(3)))
    work()
    api.delete(f"/api/collections/{key}")
    work()
    assert objects() == 0
    assert api.get(f"/api/datasets/{dataset}")["item_count"] == 0


def test_uploads_of_one_name_at_once_become_versions_of_one_file(
    container: Container, objects: Callable[[], int], work: Callable[[], list[str]]
):
    files, key = container.services.files, container.services.collections.create(ADA, title="c").collection_id

    def upload(number: int) -> int:
        content = BytesIO(TEXT + str(number).encode())
        return files.upload(ADA, key, [Upload("a.txt", content)]).completed[0].version

    with ThreadPoolExecutor(6) as pool:
        versions = sorted(pool.map(upload, range(6)))
    assert versions == [1, 2, 3, 4, 5, 6]
    work()
    assert objects() == 1
    (file,) = files.list(ADA, key).files
    with files.open(ADA, key, file.file_id).open(None) as stream:
        assert stream.read().startswith(TEXT)
