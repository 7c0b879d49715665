from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

# Everything else needs a principal. Add a route here only if it may tell anybody what it tells.
PUBLIC = {"openapi", "health.alive", "health.live", "health.ready", "metrics"}
PUBLIC |= {f"programs.{name}" for name in ("begin_by_code", "redeem_code", "begin_by_device")}
PUBLIC |= {"programs.poll_device", "programs.refresh_tokens"}
PUBLIC |= {"web.login", "auth.start", "auth.auth_callback", "auth.sign_out"}  # the way in, and out
UNDOCUMENTED = {"openapi", "metrics", "web.api_docs"}
BODY_METHODS = {"post", "put", "patch"}


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    described = app.test_client().get("/api/openapi.json", headers={"Host": "localhost"}).json
    assert described
    return dict(described)


def api_rules(app: Flask) -> list[Rule]:
    return [
        rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/api", "/health")) and rule.endpoint not in UNDOCUMENTED
    ]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_only_the_listed_routes_are_open_to_anybody(app: Flask):
    marked = {
        name for name, function in app.view_functions.items() if getattr(function, "is_public_route", False)
    }
    assert marked == PUBLIC


def test_the_guard_stands_before_every_route(app: Flask):
    names = [function.__name__ for function in app.before_request_funcs[None]]
    assert names[:2] == ["start", "_admit"]  # only the clock comes first


def test_every_route_is_documented_with_each_of_its_methods(app: Flask, document: dict[str, Any]):
    described = {(path, method.upper()) for path, method, _ in operations(document)}
    served = {
        (rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}"), method)
        for rule in api_rules(app)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served


def test_every_id_in_a_path_is_typed(app: Flask, document: dict[str, Any]):
    for rule in api_rules(app):
        for name in rule.arguments:
            texts = {"chunk_id", "point_id", "job_id", "batch_key", "queue", "run_id"}
            wanted = "string" if name in texts else "integer"
            path = rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}")
            for operation in document["paths"][path].values():
                (parameter,) = (one for one in operation["parameters"] if one["name"] == name)
                assert (parameter["in"], parameter["schema"]["type"]) == ("path", wanted), rule.rule
            assert (f"<int:{name}>" in rule.rule) == (wanted == "integer"), rule.rule


def test_every_operation_says_what_it_does_and_what_it_answers(document: dict[str, Any]):
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"].endswith((".", ").")), where
        good = {status: one for status, one in operation["responses"].items() if status < "300"}
        assert len(good.keys() - {"202", "206"}) == 1, where  # not made yet, or a part of it
        for status, response in good.items():
            assert bool(response.get("content")) == (status != "204"), where


def test_every_operation_lists_the_errors_that_come_before_it(document: dict[str, Any]):
    for path, method, operation in operations(document):
        if not path.startswith("/api/"):
            continue
        wanted = {"400", "401", "403", "500", "503"}
        wanted |= {"404"} if "{" in path else set()
        wanted |= {"413", "415"} if method in BODY_METHODS else set()
        assert wanted <= set(operation["responses"]), f"{method} {path}"
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], f"{method} {path}"


def test_every_operation_shows_a_request(document: dict[str, Any]):
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        shown = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        assert all("example" in one for one in shown), where
        content = operation.get("requestBody", {}).get("content", {})
        assert "example" in content.get("application/json", {"example": None}), where
        assert "<" not in str(content.get("application/json", {}).get("example")), where


def test_the_document_is_whole(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1")
    assert None not in document["components"].values()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(_references(document)) <= known


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
