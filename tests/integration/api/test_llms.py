"""Language models over HTTP, and the names that they give to topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.config import Settings
from app.container import Container
from app.errors import NotFoundError
from app.pipeline.projection.runner import ProjectionRunner
from app.storage.postgres.tables import LlmRow, Visualization, VisualizationTransform
from tests.integration.api.conftest import ADA, BOB, Api
from tests.support.providers import EmbeddingServer, Fault

_CACHE = Path(__file__).parents[3] / ".data" / "test-numba"
SUBJECTS = ("river fish water boat", "violin concert opera music", "engine wheel motor car")


@pytest.fixture
def llm(api: Api, provider: EmbeddingServer) -> int:
    return make(api, provider)


def make(api: Api, provider: EmbeddingServer, **more: Any) -> int:
    body = {
        "name": "stub",
        "provider": "openai",
        "base_url": provider.openai_url,
        "api_key": "sk-secret",
        "model": "stub",
        **more,
    }
    return int(api.post("/api/llms", body, 201)["llm_id"])


def test_a_key_goes_in_and_never_comes_out(
    api: Api, provider: EmbeddingServer, container: Container, llm: int
):
    answers = [
        api.get("/api/llms"),
        api.get(f"/api/llms/{llm}"),
        api.patch(f"/api/llms/{llm}", {"name": "renamed"}),
        api.post(f"/api/llms/{llm}/test"),
    ]
    assert "sk-secret" not in str(answers)
    assert (answers[2]["name"], answers[2]["has_api_key"]) == ("renamed", True)
    assert answers[3] == {"success": True, "message": "stub answered: An answer"}
    assert provider.requests[-1]["headers"]["authorization"] == "Bearer sk-secret"
    with container.database.transaction() as session:
        sealed = session.scalar(select(LlmRow.api_key_sealed))
    assert sealed
    assert "sk-secret" not in sealed
    assert api.patch(f"/api/llms/{llm}", {"api_key": ""})["has_api_key"] is False


def test_a_sealed_key_opens_in_its_own_row_only(
    api: Api, provider: EmbeddingServer, container: Container, llm: int
):
    other = make(api, provider, api_key="sk-other")
    with container.database.transaction() as session:
        session.get_one(LlmRow, other).api_key_sealed = session.get_one(LlmRow, llm).api_key_sealed
    answer = api.post(f"/api/llms/{other}/test")
    assert answer["success"] is False
    assert "belongs to" in answer["message"]
    assert provider.requests == []


def test_a_provider_brings_its_defaults_and_cohere_wants_a_key(api: Api):
    made = api.post("/api/llms", {"name": "x", "provider": "openai"}, 201)
    assert (made["base_url"], made["has_api_key"], made["is_public"]) == (
        "https://api.openai.com/v1",
        False,
        False,
    )
    assert made["config"] == {"model": made["model"]}
    assert api.post("/api/llms", {"name": "x", "provider": "cohere"}, 400)["field"] == "api_key"


def test_the_operators_service_answers_and_takes_no_address(
    api: Api, provider: EmbeddingServer, container: Container
):
    made = api.post("/api/llms", {"name": "ours", "provider": "internal", "model": "m"}, 201)
    assert (made["base_url"], made["has_api_key"]) == (None, False)
    answer = api.post(f"/api/llms/{made['llm_id']}/test")
    assert answer["success"] is False
    assert "LLM_INFERENCE_API_URL is not set" in answer["message"]
    settings = {**container.settings.values, "llm_inference_api_url": provider.cohere_url}
    container.settings = Settings(settings)
    answer = api.post(f"/api/llms/{made['llm_id']}/test")
    assert answer == {"success": True, "message": "m answered: An answer"}
    assert provider.requests[-1]["path"] == "/api/chat"
    for refused in (
        api.patch(f"/api/llms/{made['llm_id']}", {"base_url": "https://example.com/v1"}, 400),
        api.post("/api/llms", {"name": "x", "provider": "internal", "base_url": "https://example.com"}, 400),
    ):
        assert refused["field"] == "base_url"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"provider": "nope"}, "provider"),
        ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
        ({"config": {"nope": 1}}, "config.nope"),
        ({"config": {"temperature": 3}}, "config.temperature"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"name": ""}, "name"),
        ({"model": " "}, "model"),
        ({"llm": 1}, "llm"),
    ],
)
def test_what_cannot_work_is_refused_by_field(api: Api, llm: int, more: dict[str, object], field: str):
    body = {"name": "x", "provider": "openai", "base_url": "https://example.com/v1", **more}
    assert api.post("/api/llms", body, 400)["field"] == field
    assert api.patch(f"/api/llms/{llm}", more, 400)["field"] == field


def test_a_provider_that_is_down_is_an_answer_of_the_test(api: Api, provider: EmbeddingServer, llm: int):
    provider.faults.append(Fault("status", status=401, message="bad key sk-secret"))
    answer = api.post(f"/api/llms/{llm}/test")
    assert answer["success"] is False
    assert "bad key [key]" in answer["message"]


def test_a_public_one_can_be_read_and_not_used(container: Container, llm: int, api: Api):
    # The API of these tests acts for the single user; Ada and Bob exist beside.
    of = container.services
    key = of.llms.create(ADA, {"name": "l", "provider": "openai", "is_public": True}).llm_id
    assert of.llms.get(BOB, key).name == "l"
    for call in (of.llms.test, of.llms.delete):
        with pytest.raises(NotFoundError):
            call(BOB, key)
    assert key not in [row["llm_id"] for row in api.get("/api/llms")["items"]]
    api.get(f"/api/llms/{llm + 1000}", 404)


# --- names on maps ------------------------------------------------------------------------------------


@pytest.fixture
def embedded(api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]) -> int:
    """An embedded dataset of three subjects, thirty passages each; maps may find topics within them."""
    dataset = api.dataset()
    for number, subject in enumerate(SUBJECTS):
        words = subject.split()
        texts = [f"{subject} {words[i % 4]} {words[(i + number) % 4]} number{i}" for i in range(30)]
        api.push(dataset, **{f"subject{number}": texts})
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)
    work()
    return int(made["embedded_datasets"][0]["embedded_dataset_id"])


@pytest.fixture
def draw(api: Api, container: Container, embedded: int) -> Callable[..., tuple[Any, Any]]:
    """Make a map with this configuration in the worker's way; returns the map and its topics."""
    vars(container)["projection_runner"] = ProjectionRunner(_CACHE, timeout_seconds=120)

    def run(**config: Any) -> tuple[Any, Any]:
        body = {"title": "m", "embedded_dataset_id": embedded, "visualization_config": config}
        made = api.post("/api/visualization-transforms", body, 201)
        with container.database.transaction() as session:
            job_id = session.get_one(Visualization, made["last_visualization_id"]).job_id
        job = container.services.jobs.begin(job_id, "test")
        assert job is not None
        container.services.visualization_runs.build(job, job.contract)  # type: ignore[arg-type]  # of this kind
        path = f"/api/visualizations/{made['last_visualization_id']}"
        return api.get(path), api.get(f"{path}/clusters")["clusters"]

    return run


def test_a_language_model_names_the_topics(
    provider: EmbeddingServer, draw: Callable[..., tuple[Any, Any]], llm: int
):
    provider.chat = lambda system, user: f"All about {user.split(': ')[1].split(',')[0]}"
    drawn, topics = draw(llm_id=llm, topic_naming_prompt="Name in Dutch.")
    assert topics
    assert all(topic["name"].startswith("All about ") for topic in topics)
    assert {topic["name_source"] for topic in topics} == {"language_model"}
    assert drawn["stats_json"]["notes"] == []
    asked = [request["body"]["messages"] for request in provider.requests if "messages" in request["body"]]
    assert len(asked) == len(topics)
    assert all("Name in Dutch." in system["content"] for system, _ in asked)


def test_a_language_model_that_fails_leaves_keywords_and_a_note(
    provider: EmbeddingServer, draw: Callable[..., tuple[Any, Any]], llm: int
):
    provider.faults.extend([Fault("status", status=401, message="bad key sk-secret")] * 9)
    drawn, topics = draw(llm_id=llm)
    assert {topic["name_source"] for topic in topics} == {"keywords"}
    (note,) = drawn["stats_json"]["notes"]
    assert note.startswith(f"{len(topics)} of {len(topics)} topics kept their keyword names")
    assert "bad key [key]" in note


def test_an_llm_that_a_transform_names_stays(api: Api, embedded: int, llm: int):
    body = {"title": "m", "embedded_dataset_id": embedded, "visualization_config": {"llm_id": llm}}
    made = api.post("/api/visualization-transforms", body, 201)
    path = f"/api/visualization-transforms/{made['visualization_transform_id']}"
    assert made["visualization_config"]["llm_id"] == llm
    assert api.delete(f"/api/llms/{llm}", 409)["code"] == "conflict"
    api.patch(path, {"visualization_config": {}})
    api.delete(f"/api/llms/{llm}")


@pytest.mark.parametrize(("config", "status"), [({"llm_id": 999_999}, 404), ({"llm_id": "1"}, 400)])
def test_an_llm_that_is_not_there_is_named(api: Api, embedded: int, config: dict[str, Any], status: int):
    field = "visualization_config.llm_id"
    body = {"title": "m", "embedded_dataset_id": embedded, "visualization_config": config}
    assert api.post("/api/visualization-transforms", body, status)["field"] == field
    made = api.post("/api/visualization-transforms", {**body, "visualization_config": {}}, 201)
    path = f"/api/visualization-transforms/{made['visualization_transform_id']}"
    assert api.patch(path, {"visualization_config": config}, status)["field"] == field


def test_somebody_elses_llm_is_not_there(api: Api, container: Container, embedded: int):
    hers = container.services.llms.create(ADA, {"name": "l", "provider": "openai", "is_public": True}).llm_id
    body = {"title": "m", "embedded_dataset_id": embedded, "visualization_config": {"llm_id": hers}}
    assert api.post("/api/visualization-transforms", body, 404)["field"] == "visualization_config.llm_id"
    with container.database.transaction() as session:
        assert session.scalars(select(VisualizationTransform)).all() == []
