from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

from app.config import Settings
from app.container import Container, build
from app.errors import InvalidInputError
from app.factory import create_app
from app.observability import tracing
from tests.integration.api.conftest import Api
from tests.support.spans import collecting_spans

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("hostname", ["0.0.0.0", "::", "192.168.1.7", "pod-7f9c"])
def test_a_server_without_sign_in_does_not_start_where_others_reach_it(settings: Settings, hostname: str):
    open_settings = replace(settings, values=MappingProxyType({**settings.values, "hostname": hostname}))
    with pytest.raises(InvalidInputError, match=r"HOSTNAME=127\.0\.0\.1"):
        create_app(build(open_settings))


def test_only_this_machine_is_answered(client: FlaskClient):
    away = client.get("/api/collections", environ_base={"REMOTE_ADDR": "192.168.1.7"})
    assert away.status_code == 403
    assert client.get("/api/collections", environ_base={"REMOTE_ADDR": "::1"}).status_code == 200


def test_a_name_pointed_at_this_machine_by_somebody_else_is_refused(client: FlaskClient):
    rebound = client.get("/api/collections", headers={"Host": "evil.example:8080"})
    assert rebound.status_code == 403
    assert rebound.json
    assert rebound.json["code"] == "forbidden"
    for name in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
        assert client.get("/api/collections", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 201),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 201),
        ({}, 201),
    ],
)
def test_another_site_cannot_write(client: FlaskClient, headers: dict[str, str], status: int):
    answer = client.post("/api/collections", json={"title": "x"}, headers=headers)
    assert answer.status_code == status


def test_a_body_is_json_and_says_so(client: FlaskClient):
    form = client.post("/api/collections", data={"title": "x"})
    assert (form.status_code, form.json and form.json["code"]) == (415, "unsupported_type")
    plain = client.post("/api/collections", data='{"title": "x"}', content_type="text/plain")
    assert plain.status_code == 415
    for broken in ("{", '{"title": NaN}', "[" * 100_000):
        answer = client.post("/api/collections", data=broken, content_type="application/json")
        assert answer.status_code == 400, broken[:20]
        assert answer.json
        assert answer.json["code"] == "invalid_input"
    half = client.post("/api/collections", data=b'{"title": "\\ud800"}', content_type="application/json")
    assert half.status_code == 400


def test_every_error_has_one_shape(client: FlaskClient):
    answers = {
        404: client.get("/api/nope"),
        405: client.put("/api/collections"),
        400: client.post("/api/collections", json={}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.mimetype == "application/problem+json"
        body = answer.json
        assert body
        assert body["status"] == status
        assert {"error", "message", "code", "request_id"} <= set(body)
    assert "POST" in answers[405].headers["Allow"]


def test_a_fault_of_ours_tells_nothing_but_the_number_to_ask_for(
    container: Container, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(container.services.collections), "list", fail)
    answer = create_app(container).test_client().get("/api/collections", headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == 500
    assert "hunter2" not in answer.get_data(as_text=True)
    assert answer.json
    assert answer.json["request_id"] == answer.headers["X-Request-ID"] == "abc-1"


def test_a_request_id_that_is_none_is_replaced(client: FlaskClient):
    answer = client.get("/health/live", headers={"X-Request-ID": "a b"})
    assert str(UUID(answer.headers["X-Request-ID"])) == answer.headers["X-Request-ID"]


def test_answers_carry_the_headers_that_browsers_heed(client: FlaskClient):
    headers = client.get("/api/collections").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_interface_describes_itself(client: FlaskClient):
    document = json.loads(client.get("/api/openapi.json").data)
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    routes = {
        rule.rule
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/api/") and rule.endpoint.partition(".")[0] != "web"
    }
    described = {path.replace("{", "<").replace("}", ">") for path in paths}
    plain = {route.replace("<int:", "<") for route in routes} - {"/api/openapi.json"}
    assert plain <= described
    body = paths["/api/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["$ref"].endswith("SearchBody")


def test_health_says_what_is_away(api: Api, container: Container, client: FlaskClient):
    assert client.get("/health/live").data == b"ok"
    ready = api.get("/health/ready")
    assert ready["status"] == "healthy"
    assert {"postgres", "qdrant", "s3", "nats"} <= set(ready["components"])


def test_requests_are_counted_by_route(client: FlaskClient):
    client.get("/api/collections/123456789")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'path="/api/collections/<int:collection_id>"' in text
    assert "http_request_duration_seconds_bucket" in text
    assert "123456789" not in text


def test_what_is_refused_is_measured_and_has_its_span(container: Container, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_provider", None)
    labels = {"method": "GET", "path": "/api/collections", "status": "403"}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0
    with collecting_spans() as spans:
        assert tracing.configure("test", spans.url)
        client = create_app(container).test_client()
        for path in ("/api/collections?search=health/metrics", "/health/live"):
            trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "Host": "evil.example"}
            assert client.get(path, headers=trace).status_code == 403
        tracing.end()
        assert [span.name for _, span in spans.of(TRACE)] == ["GET /api/collections"]
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1
