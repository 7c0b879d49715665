from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from app.container import Container
from app.storage.postgres.tables import EmbedderRow
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer, Fault


def test_a_key_goes_in_and_never_comes_out(api: Api, provider: EmbeddingServer, container: Container):
    key = api.embedder(provider)
    view = api.get(f"/api/embedders/{key}")
    assert view["has_api_key"] is True
    assert "sk-secret" not in str(view)
    with container.database.transaction() as session:
        sealed = session.scalar(select(EmbedderRow.api_key_sealed))
    assert sealed
    assert "sk-secret" not in sealed
    assert api.post(f"/api/embedders/{key}/test")["success"] is True
    assert provider.requests[-1]["headers"]["authorization"] == "Bearer sk-secret"
    assert api.patch(f"/api/embedders/{key}", {"api_key": ""})["has_api_key"] is False


def test_a_provider_brings_its_defaults(api: Api):
    made = api.post("/api/embedders", {"name": "here", "provider": "local"}, 201)
    assert (made["dimensions"], made["has_api_key"], made["base_url"]) == (384, False, None)
    names = [row["provider"] for row in api.get("/api/embedders/providers")["providers"]]
    assert names == ["local", "openai", "cohere", "internal"]


def test_a_model_in_the_configuration_is_the_model(api: Api):
    body = {"name": "x", "provider": "openai", "api_key": "k", "config": {"model": "m"}}
    made = api.post("/api/embedders", body, 201)
    assert (made["model"], made["config"]) == ("m", {"model": "m"})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"provider": "nope"}, "provider"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
        ({"dimensions": 0}, "dimensions"),
        ({"batch_size": 100_000}, "batch_size"),
        ({"truncate_strategy": "START"}, "truncate_strategy"),
        ({"config": {"nope": 1}}, "config.nope"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"name": ""}, "name"),
        ({"provider": "local"}, "base_url"),
    ],
)
def test_what_cannot_work_is_refused_by_field(api: Api, more: dict[str, object], field: str):
    body = {"name": "x", "provider": "openai", "base_url": "https://example.com/v1", **more}
    assert api.post("/api/embedders", body, 400)["field"] == field


def test_a_provider_that_is_down_is_an_answer_of_the_test(api: Api, provider: EmbeddingServer):
    key = api.embedder(provider)
    provider.faults.append(Fault("status", status=401, message="bad key"))
    answer = api.post(f"/api/embedders/{key}/test")
    assert answer["success"] is False
    assert "bad key" in answer["message"]


def test_an_embedder_in_use_keeps_its_model_and_stays(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    key, dataset = api.embedder(provider), api.dataset()
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [key]}
    made = api.post("/api/dataset-transforms", body, 201)
    assert api.delete(f"/api/embedders/{key}", 409)["code"] == "conflict"
    assert api.patch(f"/api/embedders/{key}", {"dimensions": 8}, 409)["code"] == "conflict"
    assert api.patch(f"/api/embedders/{key}", {"name": "renamed"})["name"] == "renamed"
    api.delete(f"/api/dataset-transforms/{made['transform']['dataset_transform_id']}")
    api.delete(f"/api/embedders/{key}")


def test_what_older_clients_say_of_long_texts_is_understood(api: Api):
    body = {"name": "x", "provider": "openai", "collection_name": None}
    made = api.post("/api/embedders", {**body, "truncate_strategy": "NONE"}, 201)
    assert made["truncate_strategy"] == "split"
    path = f"/api/embedders/{made['embedder_id']}"
    assert api.patch(path, {"truncate_strategy": "END"})["truncate_strategy"] == "truncate"
    assert api.post("/api/embedders", {**body, "collection_name": "x"}, 400)["field"] == "collection_name"


def test_a_refusal_names_field_rule_and_shape_and_never_the_value(api: Api):
    refused = api.post("/api/embedders", {"name": "x", "provider": "openai", "api_key": ["sk-secret"]}, 400)
    assert refused["field"] == "api_key"
    assert refused["message"] == "api_key: should be a valid string (given: a list of length 1)"
    assert "sk-secret" not in str(refused)
