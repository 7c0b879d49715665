"""What holds for all routes: lists can be walked by a cursor, edits take If-Match, work takes a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from flask import Flask

Operation = Mapping[str, Any]

# Points have a mark of their own, a file never changes, so that nothing shifts, and causes are counted anew.
BY_OFFSET = {
    "/api/dead-letters/groups",
    "/api/embedded-datasets/{embedded_dataset_id}/points",
    "/api/visualizations/{visualization_id}/points.json",
}
# They change nothing and cost nobody anything, or make a secret that is shown once.
WITHOUT_KEY = {
    "/api/auth/tokens",
    "/api/embedded-datasets/batch-stats",
    "/api/search",
}
# They let programs sign in, before it is known who asks.
SIGN_IN = {"/api/token", "/api/auth/device", "/api/auth/device/poll", "/api/auth/refresh"}
# Deleted, but never read alone: there is nothing that If-Match could be compared with.
NOT_READ_ALONE = {
    "/api/auth/sessions/{session_id}",
    "/api/auth/tokens/{api_token_id}",
    "/api/datasets/{dataset_id}/items/{item_id}",
    "/api/embedded-datasets/{embedded_dataset_id}/points/{point_id}",
}


@pytest.fixture(scope="module")
def document(app: Flask) -> Operation:
    described = app.test_client().get("/api/openapi.json", headers={"Host": "localhost"}).json
    assert described
    return dict(described)


def operations(document: Operation, method: str) -> Iterator[tuple[str, Operation]]:
    for path, methods in document["paths"].items():
        if method in methods and path.startswith("/api/"):
            yield path, methods[method]


def parameters(operation: Operation, where: str) -> set[str]:
    return {one["name"] for one in operation.get("parameters", ()) if one["in"] == where}


def test_every_list_can_be_walked_by_a_cursor(document: Operation):
    lists = {
        path: taken
        for path, operation in operations(document, "get")
        if (taken := parameters(operation, "query")) & {"offset", "page_size", "continuation_token"}
    }
    assert len(lists) > 30
    lacking = {path for path, taken in lists.items() if not taken & {"cursor", "continuation_token"}}
    assert lacking <= BY_OFFSET


def test_every_edit_takes_the_etag_of_what_was_read(document: Operation):
    edited = dict(operations(document, "patch"))
    assert len(edited) >= 8
    for path, operation in edited.items():
        assert "get" in document["paths"][path], path
        assert "If-Match" in parameters(operation, "header"), path
        assert "412" in operation["responses"], path
    deleted = dict(operations(document, "delete"))
    unread = {path for path in deleted if "get" not in document["paths"][path]}
    assert unread == NOT_READ_ALONE
    conditional = {path for path, one in deleted.items() if "If-Match" in parameters(one, "header")}
    assert conditional == deleted.keys() - NOT_READ_ALONE


def test_every_post_that_starts_or_changes_something_takes_a_key(document: Operation):
    posts = dict(operations(document, "post"))
    without = {path for path, one in posts.items() if "Idempotency-Key" not in parameters(one, "header")}
    assert without == WITHOUT_KEY | SIGN_IN
    for path in posts.keys() - without:
        assert {"409", "422"} <= posts[path]["responses"].keys(), path
