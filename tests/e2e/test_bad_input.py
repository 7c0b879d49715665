"""Bad input through HTTP: the answer names the field and the rule, and nothing is left half-done."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from devstack import documents
from devstack.client import Pile
from tests.support.app_processes import RunningApp
from tests.support.archives import write_zip_bomb
from tests.support.stores import Stores

MEBIBYTE = 1024 * 1024
TEXT = b"The committee met in October and decided to postpone the harbour extension by a year. "


@pytest.fixture(scope="module")
def pile(running_app: RunningApp) -> Pile:
    return running_app.pile("Bad input")


@pytest.fixture(scope="module")
def files_path(pile: Pile) -> str:
    return f"/api/collections/{pile.ids['collection_id']}/files"


@pytest.fixture
def nothing_left(stores: Stores, pile: Pile) -> Iterator[None]:
    """Fails the test unless all rows and stored objects are as they were before it."""
    assert pile.ids
    stores.wait_until_idle()
    before = stores.rows(), stores.objects()
    yield
    stores.wait_until_idle()
    assert (stores.rows(), stores.objects()) == before


def refused(answer: httpx.Response, status: int, *words: str, field: str | None = None) -> None:
    """The answer is a problem of this status whose message holds the words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    for word in words:
        assert word in body["message"], body["message"]
    assert body.get("field") == field


def failed_upload(app: RunningApp, pile: Pile, name: str, content: bytes) -> dict[str, Any]:
    outcome = app.upload(pile.ids["collection_id"], [(name, content)])
    assert outcome["completed"] == []
    (failed,) = outcome["failed"]
    return dict(failed)


def form(name: bytes, content: bytes) -> dict[str, Any]:
    """A multipart request whose file name is sent as it is; clients' libraries would tidy it."""
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return {"content": head + content + b"\r\n--b--\r\n", "headers": headers}


def from_chunking(pile: Pile, **chunking: Any) -> dict[str, Any]:
    ids = {name: pile.ids[name] for name in ("collection_id", "dataset_id")}
    return {"title": "t", **ids, "job_config": {"chunking": chunking}}


# Files


@pytest.mark.usefixtures("nothing_left")
def test_an_empty_file_is_refused_as_empty(running_app: RunningApp, pile: Pile):
    failed = failed_upload(running_app, pile, "empty.txt", b"")
    assert (failed["name"], failed["code"]) == ("empty.txt", "unreadable_file")
    assert "empty (0 bytes)" in failed["error"]


@pytest.mark.usefixtures("nothing_left")
def test_a_file_with_the_wrong_ending_is_told_its_right_one(
    running_app: RunningApp, pile: Pile, tmp_path: Path
):
    content = documents.write_pdf(tmp_path / "a.pdf", ["Text"]).read_bytes()
    failed = failed_upload(running_app, pile, "a.docx", content)
    assert "Word document" in failed["error"]
    assert "Rename it to .pdf" in failed["error"]


@pytest.mark.usefixtures("nothing_left")
def test_a_program_named_as_a_document_is_refused(running_app: RunningApp, pile: Pile):
    failed = failed_upload(running_app, pile, "invoice.pdf", b"MZ\x90\0" + bytes(200))
    assert failed["code"] == "unsupported_type"
    assert "a Windows program" in failed["error"]


@pytest.mark.usefixtures("nothing_left")
def test_a_file_of_101_mebibytes_is_refused_and_its_neighbour_is_kept(
    running_app: RunningApp, pile: Pile, files_path: str, tmp_path: Path
):
    big = tmp_path / "big.txt"
    with big.open("wb") as file:
        file.truncate(101 * MEBIBYTE)
    with big.open("rb") as file:
        parts: list[Any] = [("files", ("big.txt", file)), ("files", ("small.txt", TEXT))]
        answer = running_app.http.post(files_path, files=parts).raise_for_status().json()
    assert [(one["name"], one["code"]) for one in answer["failed"]] == [("big.txt", "too_large")]
    assert "larger than 100 MiB" in answer["failed"][0]["error"]
    (small,) = answer["completed"]
    running_app.http.delete(f"{files_path}/{small['key']}").raise_for_status()
    assert running_app.client.get(f"/api/collections/{pile.ids['collection_id']}")["size_bytes"] == 0


@pytest.mark.usefixtures("nothing_left")
def test_a_request_over_the_limit_is_refused_before_it_is_read(running_app: RunningApp, files_path: str):
    connection = http.client.HTTPConnection(urlsplit(running_app.base_url).netloc, timeout=10)
    connection.putrequest("POST", files_path)
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(1 << 31))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.getheader("Connection") == "close"  # what may still come is not read
    assert b"the limit is 1073741824 bytes" in answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"../../../etc/passwd.txt", "passwd.txt"),
        (rb"..\\..\\boot.txt", "boot.txt"),
        ("re\u202etxt.\x07port.txt".encode(), "retxt.port.txt"),
        (b"n" * 300 + b".txt", "n" * 251 + ".txt"),
    ],
    ids=["a path", "a Windows path", "control characters", "300 characters"],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_hostile_name_becomes_a_plain_one(running_app: RunningApp, files_path: str, sent: bytes, kept: str):
    answer = running_app.http.post(files_path, **form(sent, TEXT)).raise_for_status().json()
    (stored,) = answer["completed"]
    assert stored["name"] == kept
    download = running_app.http.get(f"{files_path}/{stored['key']}")
    assert download.content == TEXT
    assert "\n" not in download.headers["Content-Disposition"]
    running_app.http.delete(f"{files_path}/{stored['key']}").raise_for_status()


@pytest.mark.usefixtures("nothing_left")
def test_a_file_without_a_name_is_refused(running_app: RunningApp, files_path: str):
    answer = running_app.http.post(files_path, **form(b"..", TEXT)).json()
    assert answer["failed"][0]["error"] == "the file has no name"


@pytest.mark.usefixtures("nothing_left")
def test_files_that_cannot_be_read_fail_alone_with_what_to_do(
    running_app: RunningApp, stores: Stores, pile: Pile, files_path: str, tmp_path: Path
):
    secret = documents.write_pdf(tmp_path / "secret.pdf", ["Secret"], password="sesame")
    bomb = write_zip_bomb(tmp_path / "bomb.zip", megabytes=64)
    files = [(path.name, path.read_bytes()) for path in (secret, bomb)]
    outcome = running_app.upload(pile.ids["collection_id"], [*files, ("good.txt", TEXT * 5)])
    assert len(outcome["completed"]) == 3
    stores.wait_until_idle()
    listed = running_app.client.get(files_path)["files"]
    assert {one["name"]: one["state"] for one in listed} == {
        "secret.pdf": "failed",
        "bomb.zip": "failed",
        "good.txt": "succeeded",
    }
    errors = {one["name"]: one["error"] for one in listed}
    assert "password-protected. Remove the password" in errors["secret.pdf"]
    assert "archive_ratio" in errors["bomb.zip"]
    assert running_app.client.get(f"/api/datasets/{pile.ids['dataset_id']}")["item_count"] == 1
    for one in listed:
        running_app.http.delete(f"{files_path}/{one['key']}").raise_for_status()


@pytest.mark.usefixtures("nothing_left")
def test_one_name_uploaded_many_times_at_once_becomes_one_file_with_its_last_content(
    running_app: RunningApp, stores: Stores, pile: Pile, files_path: str
):
    def upload(number: int) -> dict[str, Any]:
        content = f"Report number {number}. ".encode() * 20
        (done,) = running_app.upload(pile.ids["collection_id"], [("report.txt", content)])["completed"]
        return {"number": number, **done}

    before = stores.objects()
    with ThreadPoolExecutor(6) as pool:
        done = sorted(pool.map(upload, range(6)), key=lambda one: int(one["version"]))
    assert [one["version"] for one in done] == [1, 2, 3, 4, 5, 6]
    stores.wait_until_idle()
    assert len(stores.objects() - before) == 1
    (file,) = running_app.client.get(files_path)["files"]
    last = f"Report number {done[-1]['number']}."
    assert running_app.http.get(f"{files_path}/{file['key']}").text.startswith(last)
    assert running_app.client.get(f"/api/items/{file['item_id']}/text")["text"].startswith(last)
    running_app.http.delete(f"{files_path}/{file['key']}").raise_for_status()


# Requests


@pytest.mark.parametrize(
    ("chunking", "words", "field"),
    [
        ({"chunk_size": 200, "chunk_overlap": 200}, "must be less than chunk_size (200)", "chunk_overlap"),
        ({"chunk_size": 200, "chunk_overlap": 900}, "must be less than chunk_size (200)", "chunk_overlap"),
        ({"chunk_size": 0}, "must be from", "chunk_size"),
        ({"strategy": "magic"}, "recursive", "strategy"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_chunking_that_cannot_work_is_refused(
    running_app: RunningApp, pile: Pile, chunking: dict[str, Any], words: str, field: str
):
    answer = running_app.http.post("/api/collection-transforms", json=from_chunking(pile, **chunking))
    refused(answer, 400, field, words, field=f"chunking.{field}")


@pytest.mark.usefixtures("nothing_left")
def test_an_unknown_embedder_makes_no_transform(running_app: RunningApp, pile: Pile):
    ids = [pile.ids["embedder_id"], 987_654_321]
    body = {"title": "t", "source_dataset_id": pile.ids["dataset_id"], "embedder_ids": ids}
    answer = running_app.http.post("/api/dataset-transforms", json=body)
    refused(answer, 404, "no embedder 987654321", field="embedder_ids")
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    refused(
        running_app.http.patch(path, json={"embedder_ids": ids}), 404, "no embedder", field="embedder_ids"
    )
    assert running_app.client.get(path)["embedder_ids"] == [pile.ids["embedder_id"]]


@pytest.mark.parametrize(
    ("more", "words", "field"),
    [
        ({"query": "x" * 1_000_000}, "at most 8000 characters", "query"),
        ({"query": " "}, "must not be empty", "query"),
        ({"query": 7}, "should be a valid string", "query"),
        ({"filters": {"page": "three"}}, "must be a whole number", "filters.page"),
        ({"filters": {"language": 7}}, "must be a text", "filters.language"),
        ({"filters": {"created_at": {"gte": "soon"}}}, "dates like 2026-01-31", "filters.created_at"),
        ({"filters": {"colour": "red"}}, "there is no such field; use item_id", "filters.colour"),
        ({"filters": ["page"]}, "should be a valid dictionary", "filters"),
        ({"limit": 10**12}, "between 1 and 100", "limit"),
        ({"score_threshold": 7}, "between -1 and 1", "score_threshold"),
        ({"embedded_dataset_ids": []}, "1 to 20", "embedded_dataset_ids"),
    ],
)
def test_a_search_that_makes_no_sense_says_why(
    running_app: RunningApp, pile: Pile, more: dict[str, Any], words: str, field: str
):
    body = {"query": "x", "embedded_dataset_ids": [pile.ids["embedded_dataset_id"]], **more}
    refused(running_app.http.post("/api/search", json=body), 400, field, words, field=field)


def test_a_search_beyond_a_mebibyte_is_not_even_read(running_app: RunningApp, pile: Pile):
    body = {"query": "x" * MEBIBYTE, "embedded_dataset_ids": [pile.ids["embedded_dataset_id"]]}
    for _ in range(10):
        refused(running_app.http.post("/api/search", json=body), 413, "the limit is 1048576 bytes")
        # Its connection is good for another request: nothing of the body is left on it.
        refused(running_app.http.get("/api/collections/0"), 404, "no collection 0")


@pytest.mark.parametrize(
    ("body", "media_type", "status", "words"),
    [
        ('{"title": "x"', "application/json", 400, "the body is not valid JSON: Expecting"),
        ('{"title": NaN}', "application/json", 400, "NaN is not JSON"),
        (b'{"title": "\xff"}', "application/json", 400, "the body is not valid JSON"),
        ("[1]", "application/json", 400, "the body must be a JSON object"),
        ('"{}"', "application/json", 400, "the body must be a JSON object"),
        ("", "application/json", 400, "the body must be a JSON object"),
        ('{"title": "x"}', "text/plain", 415, "Content-Type: application/json"),
        ("title=x", "application/x-www-form-urlencoded", 415, "Content-Type: application/json"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_is_no_json_object_is_refused(
    running_app: RunningApp, body: str | bytes, media_type: str, status: int, words: str
):
    headers = {"Content-Type": media_type}
    refused(running_app.http.post("/api/collections", content=body, headers=headers), status, words)


@pytest.mark.usefixtures("nothing_left")
def test_files_sent_as_json_are_told_the_way(running_app: RunningApp, files_path: str):
    refused(running_app.http.post(files_path, json={"files": []}), 415, "multipart/form-data")


@pytest.mark.usefixtures("nothing_left")
def test_an_unknown_field_is_not_ignored(running_app: RunningApp):
    answer = running_app.http.post("/api/collections", json={"title": "x", "titel": "y"})
    refused(answer, 400, "titel: there is no such field", field="titel")


def test_an_unknown_address_and_a_wrong_method_are_told_apart(running_app: RunningApp):
    refused(running_app.http.get("/api/nothing"), 404, "there is nothing at /api/nothing")
    answer = running_app.http.put("/api/collections", content="x")
    refused(answer, 405, "PUT is not possible at /api/collections; use GET, HEAD, OPTIONS, POST")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    ("query", "words", "field"),
    [
        ("limit=-1", "greater than or equal to 1", "limit"),
        ("limit=1000000000", "less than or equal to 1000", "limit"),
        ("offset=-1", "greater than or equal to 0", "offset"),
        ("offset=99999999999999999999", "less than or equal to 1000000000", "offset"),
        ("limit=ten", "valid integer", "limit"),
        ("limt=5", "there is no such field", "limt"),
        ("search=%00", "control characters", "search"),
    ],
)
def test_a_window_outside_the_list_is_refused(running_app: RunningApp, query: str, words: str, field: str):
    refused(running_app.http.get(f"/api/collections?{query}"), 400, field, words, field=field)


@pytest.mark.parametrize("key", ["0", "987654321", "9" * 30])
def test_an_id_of_nothing_is_not_found_however_large(running_app: RunningApp, key: str):
    refused(running_app.http.get(f"/api/collections/{key}"), 404, f"no collection {key}")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.usefixtures("nothing_left")
def test_another_site_can_neither_make_nor_delete(
    running_app: RunningApp, pile: Pile, headers: dict[str, str]
):
    path = f"/api/collections/{pile.ids['collection_id']}"
    refused(
        running_app.http.post("/api/collections", json={"title": "x"}, headers=headers), 403, "another site"
    )
    refused(running_app.http.delete(path, headers=headers), 403, "another site")
