"""The description of the interface: what the handlers declare, and what is answered before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask_openapi3.openapi import OpenAPI
from flask_openapi3.types import ResponseDict
from werkzeug.routing import Rule

from app.api.idempotency import HEADER, takes_key
from app.api.schemas import examples

PROBLEM = "application/problem+json"
SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, or an access token"},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-explorer-session"},
}
_WITH_BODY = frozenset({"post", "put", "patch"})
# The guard and the framework refuse these before a handler runs, so no handler lists them.
_ALWAYS = {
    "401": "Unauthorized",
    "403": "Forbidden",
    "429": "Too Many Requests",
    "500": "Internal Server Error",
    "503": "Service Unavailable",
}
_OF_BODIES = {"413": "Content Too Large", "415": "Unsupported Media Type"}


def answers(media_type: str, *, binary: bool = False) -> ResponseDict:
    """The responses of a handler that answers with something other than JSON."""
    return {"200": {"content": _content(media_type, binary=binary)}}


def download(media_type: str) -> ResponseDict:
    """The responses of a handler that answers with a file, or with the part of it that is asked for."""
    content = _content(media_type, binary=True)
    return {
        "200": {"content": content},
        "206": {"description": "Partial Content", "content": content},
        "304": {"description": "Not Modified"},
        "416": {"description": "Range Not Satisfiable"},
    }


def _content(media_type: str, *, binary: bool) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"} if binary else {"type": "string"}
    return {media_type: {"schema": schema}}


def document(app: OpenAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of every documented route."""
    described: dict[str, Any] = app.api_doc
    described["components"] = {
        name: part for name, part in described["components"].items() if part is not None
    }
    described["security"] = [{name: []} for name in SECURITY_SCHEMES]
    for path, operations in described["paths"].items():
        if path.startswith("/api/"):
            for method, operation in operations.items():
                _complete(method, operation["responses"])
                _conditional(method, operation, readable="get" in operations)
    for path, method in _keyed(app):
        _take_key(described["paths"][path][method])
    for rule in app.url_map.iter_rules():
        for method, operation in described["paths"].get(_path(rule), {}).items():
            if method.upper() in (rule.methods or ()):
                _show_example(rule.endpoint, operation)
    return described


def _show_example(endpoint: str, operation: dict[str, Any]) -> None:
    """The request that app/api/schemas/examples.py has for the route."""
    query = examples.QUERIES.get(endpoint, {})
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if parameter["in"] == "path":
            parameter["example"] = examples.sample(name)
        elif name in query:
            parameter["example"] = query[name]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        content["example"] = examples.filled(examples.BODIES[endpoint], examples.sample)


def _path(rule: Rule) -> str:
    return rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}")


def _conditional(method: str, operation: dict[str, Any], *, readable: bool) -> None:
    """What app/api/etags.py does for reads and changes."""
    if method == "get" and "application/json" in operation["responses"]["200"].get("content", {}):
        operation["responses"].setdefault("304", {"description": "Not Modified"})
        _add_parameter(operation, _IF_NONE_MATCH)
    if method in {"patch", "delete"} and readable:
        _problem(operation["responses"], "412", "Precondition Failed")
        _add_parameter(operation, _IF_MATCH)


def _add_parameter(operation: dict[str, Any], parameter: dict[str, Any]) -> None:
    parameters: list[dict[str, Any]] = operation.setdefault("parameters", [])
    if parameter not in parameters:  # the document is put together once and kept
        parameters.append(parameter)


def _header(name: str, description: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_KEY = _header(
    HEADER, "A repetition with it acts once and gets the first answer, for a day", "^[!-~]{1,255}$"
)
_IF_MATCH = _header("If-Match", "The ETag of what was read: 412 when it has changed since", "^[!-~]+$")
_IF_NONE_MATCH = _header("If-None-Match", "An ETag that is known: 304 when it still is the one", "^[!-~]+$")


def _keyed(app: OpenAPI) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        function = app.view_functions[rule.endpoint]
        if rule.rule.startswith("/api/") and takes_key("POST", function) and "POST" in (rule.methods or ()):
            yield _path(rule), "post"


def _take_key(operation: dict[str, Any]) -> None:
    _add_parameter(operation, _KEY)
    for status, phrase in {"409": "Conflict", "422": "Unprocessable Content"}.items():
        _problem(operation["responses"], status, phrase)


def _complete(method: str, responses: dict[str, Any]) -> None:
    common = _ALWAYS | (_OF_BODIES if method in _WITH_BODY else {})
    for status, phrase in common.items():
        responses.setdefault(status, {"description": phrase})
    for status, response in responses.items():
        if status >= "400":
            _problem(responses, status, response["description"])


def _problem(responses: dict[str, Any], status: str, phrase: str) -> None:
    response = responses.setdefault(status, {"description": phrase})
    response["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
