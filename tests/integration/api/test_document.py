"""schemathesis over the whole document: no fault of ours, and no answer that it leaves out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.container import Container
from tests.conftest import FUZZ
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer

SOME, FEW = 40, 2  # routes and examples in the suite; `make fuzz-api` sends as many as its profile says


def no_fault_of_ours(ctx: Any, response: Any, case: Any) -> bool | None:
    """Not being set up for something (501) is none; that the document says so is the next check's."""
    return None if response.status_code == 501 else not_a_server_error(ctx, response, case)


CHECKS = [no_fault_of_ours, status_code_conformance, content_type_conformance, response_schema_conformance]
QUERIES = {"/api/collections/search": "?q=p"}
NOT_READY = {
    f"/api/visualizations/{{visualization_id}}/{name}" for name in ("points", "points.json", "export")
}
NOT_READY |= {"/api/visualizations/{visualization_id}/download"}
# Nobody signs in here, and the map waits for a worker.
SIGN_IN = {"/api/auth/sessions", "/api/auth/tokens", "/api/auth/authorize"}
EXPECTED = dict.fromkeys({*SIGN_IN, *NOT_READY}, 409)
RUN = "/api/visualization-transforms/{visualization_transform_id}/visualizations/{visualization_id}"
EXPECTED |= {f"{RUN}/download": 202}
EXPECTED |= {f"/api/{kind}-inference/models": 501 for kind in ("embedding", "llm")}  # no such services here
ENDLESS = ("/stream", "/api/events")


@pytest.fixture
def known(api: Api, container: Container, provider: EmbeddingServer) -> dict[str, Any]:
    """One of each, so that paths lead somewhere."""
    container.apply_topology(dry_run=False)
    collection, dataset, embedder = api.collection(), api.dataset(), api.embedder(provider)
    file = api.upload(collection, ("a.txt", b"The tide rises."))["completed"][0]["file_id"]
    made = api.post(
        "/api/dataset-transforms",
        {"title": "t", "source_dataset_id": dataset, "embedder_ids": [embedder]},
        201,
    )["transform"]
    embedded = made["embedded_dataset_ids"][0]
    drawn = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded}, 201)
    return {
        "collection_id": collection,
        "file_key": file,
        "dataset_id": dataset,
        "item_id": api.push(dataset, tides=["The tide rises."])["item_ids"][0],
        "embedder_id": embedder,
        "collection_transform_id": api.collection_transform(collection, dataset),
        "dataset_transform_id": made["dataset_transform_id"],
        "embedded_dataset_id": embedded,
        "visualization_transform_id": drawn["visualization_transform_id"],
        "visualization_id": drawn["last_visualization_id"],
        "job_id": api.get("/api/jobs")["items"][0]["job_id"],
    }


def test_whatever_is_sent_gets_an_answer_that_the_document_has(client: FlaskClient, known: dict[str, Any]):
    every = list(operations(client.application))
    # The suite has seconds: each run takes others, by its seed.
    chosen = every if at_length() else random.sample(every, SOME)
    failures = [found for each in chosen if (found := failure_of(each, known))]
    assert not failures, "\n\n".join(failures)


def at_length() -> bool:
    return settings.get_current_profile_name() == FUZZ


def failure_of(operation: Any, known: dict[str, Any]) -> str | None:
    try:
        send(operation, known)
    except (FailureGroup, Failure) as failure:
        return f"{operation.label}: {failure}"
    return None


def test_every_route_that_reads_answers_about_what_is_there(client: FlaskClient, known: dict[str, Any]):
    """The document's own addresses, with the ids of things that are there."""
    strange: dict[str, int] = {}
    for operation in operations(client.application):
        names = set(re.findall(r"{(\w+)}", operation.path))
        if operation.method.upper() == "GET" and names <= known.keys():
            path = operation.path.format(**known)
            with client.get(f"{path}{QUERIES.get(operation.path, '')}") as answer:
                if answer.status_code != EXPECTED.get(operation.path, 200):
                    strange[operation.label] = answer.status_code
    assert strange == {}


def operations(app: Flask) -> Iterator[Any]:
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, base_url="http://localhost")
    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(ENDLESS):
            yield operation


def send(operation: Any, known: dict[str, Any]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=settings().max_examples if at_length() else FEW,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    def answer(case: Any) -> None:
        if case.method != "DELETE":
            given_ids = case.path_parameters or {}
            case.path_parameters = {name: known.get(name, value) for name, value in given_ids.items()}
        case.call_and_validate(checks=CHECKS)

    answer()
