from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from tests.integration.api.conftest import Api


def etag(api: Api, path: str) -> str:
    return str(api.client.get(path).headers["ETag"])


def change(api: Api, path: str, body: Any, if_match: str) -> Any:
    return api.client.patch(path, json=body, headers={"If-Match": if_match})


def test_what_is_known_is_not_sent_again(api: Api):
    path = f"/api/collections/{api.collection()}"
    known = etag(api, path)
    answer = api.client.get(path, headers={"If-None-Match": known})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", known)
    api.patch(path, {"title": "other"})
    assert api.client.get(path, headers={"If-None-Match": known}).status_code == 200


def test_an_edit_of_what_has_changed_since_is_refused(api: Api):
    collection, dataset = api.collection(), api.dataset()
    transform = api.collection_transform(collection, dataset)
    embedder = api.post("/api/embedders", {"name": "e", "provider": "local"}, 201)["embedder_id"]
    for path, body in (
        (f"/api/collection-transforms/{transform}", {"title": "new"}),
        (f"/api/collections/{collection}", {"title": "new"}),
        (f"/api/datasets/{dataset}", {"title": "new"}),
        (f"/api/embedders/{embedder}", {"name": "new"}),
    ):
        known = etag(api, path)
        assert change(api, path, body, known).status_code == 200, path
        late = change(api, path, {}, known)
        assert (late.status_code, late.json["code"], late.json["field"]) == (
            412,
            "precondition_failed",
            "If-Match",
        )
        assert api.client.delete(path, headers={"If-Match": known}).status_code == 412
        assert change(api, path, {}, "*").status_code == 200
        assert api.client.delete(path, headers={"If-Match": etag(api, path)}).status_code in {200, 204}, path


def test_a_file_is_deleted_only_in_the_version_that_was_seen(api: Api):
    collection = api.collection()
    key = api.upload(collection, ("a.txt", b"one"))["completed"][0]["key"]
    path = f"/api/collections/{collection}/files/{key}"
    known = etag(api, path)
    api.upload(collection, ("a.txt", b"two"))
    assert api.client.delete(path, headers={"If-Match": known}).status_code == 412
    assert api.client.delete(path, headers={"If-Match": etag(api, path)}).status_code == 200
    assert api.client.delete("/api/auth/sessions", headers={"If-Match": '"x"'}).status_code != 204


def test_of_edits_at_the_same_moment_one_wins(api: Api):
    path, barrier = f"/api/collections/{api.collection()}", threading.Barrier(4)
    known, outcomes = etag(api, path), []

    def edit(number: int) -> None:
        client = api.client.application.test_client()
        barrier.wait()
        answer = client.patch(path, json={"title": f"t{number}"}, headers={"If-Match": known})
        outcomes.append(answer.status_code)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {200: 1, 412: 3}


def test_an_edit_of_a_transform_s_embedders_is_an_edit_of_the_transform(api: Api):
    first, second = (
        api.post("/api/embedders", {"name": name, "provider": "local"}, 201)["embedder_id"] for name in "ab"
    )
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [first]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    path = f"/api/dataset-transforms/{made['dataset_transform_id']}"
    # Whoever comes second under the row's lock is told by this moment alone that somebody was there.
    assert api.patch(path, {"embedder_ids": [first, second]})["updated_at"] > made["updated_at"]
