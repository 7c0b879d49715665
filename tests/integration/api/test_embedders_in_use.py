"""What may still be changed on an embedder whose vectors are kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer


@pytest.fixture
def used(api: Api, provider: EmbeddingServer) -> int:
    """An embedder that an embedded dataset uses."""
    key, dataset = api.embedder(provider, config={"query_prefix": "query: "}), api.dataset()
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [key]}
    api.post("/api/dataset-transforms", body, 201)
    return key


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_url": "http://127.0.0.1:9/v1"}, "base_url"),
        ({"model": "other"}, "model"),
        ({"config": {"query_prefix": "q: "}}, "config"),
        ({"config": {"query_prefix": "query: ", "document_prefix": "passage: "}}, "config"),
        ({"config": {"query_prefix": "query: ", "model": "other"}}, "model"),
        ({"max_input_tokens": 100}, "max_input_tokens"),
        ({"truncate_strategy": "truncate"}, "truncate_strategy"),
        ({"dimensions": 8}, "dimensions"),
    ],
)
def test_what_shapes_vectors_cannot_change_while_some_are_kept(
    api: Api, used: int, change: dict[str, Any], field: str
):
    before = api.get(f"/api/embedders/{used}")
    refusal = api.patch(f"/api/embedders/{used}", {**change, "name": "new name"}, 409)
    assert (refusal["code"], refusal["field"]) == ("conflict", field)
    assert f"{field} must stay" in refusal["message"]
    assert "make another embedder" in refusal["message"]
    assert api.get(f"/api/embedders/{used}") == before


def test_name_key_pace_and_sharing_can_change_while_vectors_are_kept(api: Api, used: int):
    change = {"name": "new name", "api_key": "sk-other", "batch_size": 7, "is_public": True}
    same = {key: value for key, value in api.get(f"/api/embedders/{used}").items() if key in FIELDS}
    same["config"] = {"query_prefix": "query: ", "document_prefix": "", "request_dimensions": False}
    changed = api.patch(f"/api/embedders/{used}", same | change)
    assert (changed["name"], changed["batch_size"], changed["is_public"]) == ("new name", 7, True)


FIELDS = ("provider", "base_url", "model", "dimensions", "max_input_tokens", "truncate_strategy")
