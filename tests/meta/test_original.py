"""A client written for the original finds its routes here, and in their answers the names that it knows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask

from tests.meta.original_fields import FIELDS
from tests.meta.original_routes import ROUTES

Schema = Mapping[str, Any]
WANTED = [line.split(maxsplit=3) for line in FIELDS.splitlines() if line]


@pytest.fixture(scope="module")
def document(app: Flask) -> Schema:
    described = app.test_client().get("/api/openapi.json", headers={"Host": "localhost"}).json
    assert described
    return dict(described)


def test_every_route_is_there(app: Flask):
    served = {
        f"{method} {re.sub('<[^>]*>', '{}', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    assert set(filter(None, ROUTES.splitlines())) - served == set()


def test_every_name_is_in_the_answer(document: Schema):
    answers = {
        (method.upper(), re.sub("{[^}]*}", "{}", path)): answer_of(operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    missing: dict[str, set[str]] = defaultdict(set)
    for method, path, place, names in WANTED:
        found = inside(document, answers[method, path], place)
        if lacking := set(names.split()) - found.keys():
            missing[f"{method} {path} {place}"] |= lacking
    assert not missing


def answer_of(operation: Schema) -> Schema | None:
    """The schema of the JSON that a good answer has."""
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get("application/json")
        if status < "300" and content:
            schema: Schema = content["schema"]
            return schema
    return None


def inside(document: Schema, schema: Schema | None, place: str) -> Schema:
    """The properties at a place of the answer."""
    assert schema is not None
    found = properties(document, schema)
    for name in place.split(".") if place != "." else ():
        found = properties(document, found[name])
    return found


def properties(document: Schema, schema: Schema) -> Schema:
    """The fields of an object, or of the rows of a list; null is none of the choices."""
    if "$ref" in schema:
        return properties(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in schema:
        return properties(document, next(one for one in schema["anyOf"] if one.get("type") != "null"))
    if "items" in schema:
        return properties(document, schema["items"])
    found: Schema = schema.get("properties", {})
    return found
