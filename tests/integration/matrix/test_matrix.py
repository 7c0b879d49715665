"""Every route, every method, everybody: the answers are those of table.py, and nobody's things change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import update

from app.api.schemas.examples import QUERIES
from app.storage.postgres.tables import Job
from tests.integration.matrix.conftest import World
from tests.integration.matrix.table import (
    AWAY,
    BODIES,
    ELSEWHERE,
    EXPECTED,
    GOOD,
    KIND_OF,
    LAST,
    LEFT_OUT,
    NARROWING,
    NOTHING,
    READS,
    Kind,
)
from tests.integration.matrix.tenants import (
    SECRET,
    Answer,
    Asker,
    Ids,
    Things,
    _cookie,
    addresses,
    name_of,
)

HOW = "see the four steps at the top of tests/integration/matrix/table.py"


def asked(
    world: World, ids: Ids, *, but: frozenset[Kind] = frozenset()
) -> Iterator[tuple[str, str, str, Kind]]:
    for endpoint, method, path in addresses(world.app, ids):
        kind = KIND_OF.get(endpoint)  # what has none fails in the first test, with words
        if kind is not None and kind not in but | {Kind.OPEN}:
            yield endpoint, method, path, kind


def fits(answer: Answer, expected: str, foreign: str) -> bool:
    if expected == AWAY:
        return answer.away
    if expected == GOOD:
        return answer.status < 400 and not answer.away and foreign not in answer.text
    return answer.status == int(expected)


def nothing(wrong: dict[str, Any]) -> None:
    """Fail with one line per wrong answer."""
    if wrong:
        lines = "\n".join(f"  {where} -> {answer}" for where, answer in wrong.items())
        pytest.fail(f"{len(wrong)} answers are not those of tests/integration/matrix/table.py:\n{lines}")


def reads(endpoint: str, method: str) -> bool:
    return method == "GET" or endpoint in READS


def test_every_route_is_classified(world: World):
    rules = {rule.endpoint: rule for rule in world.app.url_map.iter_rules()}
    missing = [f"{name} ({rule.rule})" for name, rule in rules.items() if name not in KIND_OF]
    assert missing == [], f"say what these routes promise about other people's things: {HOW}"
    assert set(KIND_OF) <= set(rules), "these routes are gone: take them out of the table"
    unknown = {
        name
        for rule in rules.values()
        for name in rule.arguments
        if name_of(rule, name, world.ada.ids) is None and name != "filename"
    }
    assert unknown == set(), f"no id of this name is made in tenants.py: {HOW}"
    bodies = {endpoint for endpoint, _ in body_fields(world)}
    assert bodies - set(BODIES) == set(), f"give a body for these: {HOW}"


def test_strangers_get_nothing_anywhere(world: World):
    before = world.ada.rows(world.container)
    wrong = {}
    for who in world.strangers:
        for endpoint, method, path, _ in asked(world, world.ada.ids):
            answer = who.ask(world.app, endpoint, method, path, world.ada.ids)
            if not fits(answer, AWAY, world.ada.mark):
                wrong[f"{who.name}: {method} {path}"] = answer
    nothing(wrong)
    assert world.ada.rows(world.container) == before


def test_another_tenant_gets_what_the_table_says(world: World):
    before, objects = world.ada.rows(world.container), stored(world)
    wrong = {}
    for endpoint, method, path, kind in asked(world, world.ada.ids):
        answer = world.tenant.ask(world.app, endpoint, method, path, world.bob.ids)
        if not fits(answer, EXPECTED[kind].tenant, world.ada.mark):
            wrong[f"{endpoint}: {method} {path} of kind {kind.name}"] = answer
    nothing(wrong)
    assert world.ada.rows(world.container) == before
    assert objects <= stored(world)


def stored(world: World) -> set[str]:
    return {blob.key for blob in world.container.blobs.list("")}


def test_a_machine_that_may_only_read_reads_its_owners_things_and_changes_nothing(world: World):
    before = world.ada.rows(world.container)
    wrong = {}
    for endpoint, method, path, kind in asked(world, world.ada.ids):
        expected = EXPECTED[kind].reader_reads if reads(endpoint, method) else EXPECTED[kind].reader_writes
        answer = world.reader.ask(world.app, endpoint, method, path, world.ada.ids)
        if not fits(answer, expected, world.bob.mark):
            wrong[f"{endpoint}: {method} {path} of kind {kind.name}"] = answer
    nothing(wrong)
    assert world.ada.rows(world.container) == before


def test_what_is_public_is_read_by_others_and_changed_by_nobody_else(world: World):
    of = world.ada
    publish(of, is_public=True)
    before = of.rows(world.container)
    try:
        wrong = {}
        for endpoint, method, path, kind in asked(
            world, of.ids, but=frozenset({Kind.MINE, Kind.SAME, Kind.PERSONAL})
        ):
            answer = world.tenant.ask(world.app, endpoint, method, path, world.bob.ids)
            expected = GOOD if kind is Kind.SHARED else EXPECTED[kind].tenant
            if not fits(answer, expected, SECRET):
                wrong[f"{endpoint}: {method} {path} of kind {kind.name}"] = answer
            if endpoint.startswith("marketplace.grab_"):
                forget_copy(world, endpoint.removeprefix("marketplace.grab_"), answer)
        nothing(wrong)
        assert of.rows(world.container) == before
    finally:
        publish(of, is_public=False)


def test_every_answer_has_the_headers_that_keep_browsers_in_bounds(world: World):
    wanted = {
        "Content-Security-Policy": "default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Strict-Transport-Security": "max-age=",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=()",
        "Vary": "Cookie",
    }
    wrong = {}
    for endpoint, method, path in addresses(world.app, world.ada.ids):
        if method != "GET":
            continue
        for who in (world.reader, world.strangers[0]):
            headers = who.ask(world.app, endpoint, method, path, {}).headers
            bad = [name for name, value in wanted.items() if value not in headers.get(name, "")]
            if bad or "unsafe" in headers.get("Content-Security-Policy", ""):
                wrong[f"{who.name}: {path}"] = bad
    nothing(wrong)


def publish(of: Things, *, is_public: bool) -> None:
    for noun in ("collection", "dataset", "embedder", "llm"):
        path = f"/api/{noun}s/{of.ids[f'{noun}_id']}"
        assert of.person.send("PATCH", path, {"is_public": is_public}).status_code == 200


def forget_copy(world: World, noun: str, answer: Answer) -> None:
    """A copy has the marks of what it was made of: it must not be there when others look for them."""
    key = json.loads(answer.text).get(f"{noun}_id")
    world.tenant.ask(world.app, f"{noun}s.delete_{noun}", "DELETE", f"/api/{noun}s/{key}", {})


def body_fields(world: World) -> Iterator[tuple[str, str]]:
    """Endpoint and field of everything that a JSON body may hold, from the schemas that validate it."""
    document = described(world)
    for endpoint, operation in operations(world, document):
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        for field in fields(document, schema) if schema else ():
            yield endpoint, field


def described(world: World) -> dict[str, Any]:
    found = world.reader.ask(world.app, "openapi", "GET", "/api/openapi.json", {})
    document: dict[str, Any] = json.loads(found.text)
    return document


def operations(world: World, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for rule in world.app.url_map.iter_rules():
        path = rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}")
        for method, operation in document["paths"].get(path, {}).items():
            if method.upper() in (rule.methods or ()):
                yield rule.endpoint, operation


def fields(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from fields(document, inner)
    for inner in (
        *schema.get("anyOf", ()),
        *schema.get("allOf", ()),
        *([schema["items"]] if "items" in schema else ()),
    ):
        yield from fields(document, inner)


def references(body: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Field and name of every "<id>" in a template."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield from references(value, key)
    elif isinstance(body, list):
        for value in body:
            yield from references(value, at)
    elif isinstance(body, str) and body.startswith("<"):
        yield at, body[1:-1]


def test_every_field_that_names_a_thing_is_tried(world: World):
    named = {
        (endpoint, field)
        for endpoint, field in body_fields(world)
        if field.endswith(("_id", "_ids")) and (endpoint, field) not in NARROWING
    }
    tried = {(endpoint, field) for endpoint, body in BODIES.items() for field, _ in references(body)}
    assert named - tried == set(), f"BODIES must give these as '<name>', to be tried with another's: {HOW}"


def test_nothing_can_be_built_on_what_belongs_to_another(world: World):
    before, wrong = world.ada.rows(world.container), {}
    for endpoint, method, path, _ in asked(world, world.bob.ids):
        for field, name in references(BODIES.get(endpoint, {})):
            mixed = {**world.bob.ids, name: world.ada.ids[name]}
            answer = world.tenant.ask(world.app, endpoint, method, path, mixed)
            good = fits(answer, GOOD if (endpoint, field) in LEFT_OUT else NOTHING, world.ada.mark)
            own = world.tenant.ask(world.app, endpoint, method, path, world.bob.ids)
            if not good or own.status >= 400:
                wrong[f"{method} {path}: {field}"] = (answer, own)
    nothing(wrong)
    assert world.ada.rows(world.container) == before


def test_a_list_narrowed_by_anothers_thing_is_as_if_there_were_no_such_thing(world: World):
    document, asked_for, wrong = described(world), 0, {}
    for endpoint, operation in operations(world, document):
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] != "query" or not name.endswith("_id"):
                continue
            asked_for += 1
            path = next(one for one in addresses(world.app, world.bob.ids) if one[0] == endpoint)[2]
            theirs = world.ada.ids.get(name, world.ada.ids["collection_transform_id"])
            none = UUID(int=7) if isinstance(theirs, UUID) else 987_654_321
            answers = [
                world.tenant.ask(world.app, endpoint, "GET", f"{path}?{name}={value}", {})
                for value in (theirs, none)
            ]
            texts = [one.text.replace(str(theirs), "ID").replace(str(none), "ID") for one in answers]
            if answers[0].status != answers[1].status or world.ada.mark in texts[0]:
                wrong[f"{path}?{name}"] = answers
    nothing(wrong)
    assert asked_for >= 5


def turn(address: tuple[str, str, str]) -> tuple[int, bool, bool]:
    """Reading before writing, a job before what it belongs to is cancelled, and LAST at the end."""
    endpoint, method, _ = address
    after = LAST.index(endpoint) + 1 if endpoint in LAST else 0
    return after, method != "GET", endpoint != "jobs.cancel_job"


def test_every_documented_request_is_answered_as_documented(world: World):
    of = world.admin()
    with world.container.database.transaction() as session:  # so that it can be cancelled
        session.execute(update(Job).where(Job.job_id == of.ids["job_id"]).values(state="pending"))
    admin = Asker("an admin", {"Cookie": _cookie(of.person)})
    documented = dict(operations(world, described(world)))
    assert ELSEWHERE.keys() | QUERIES.keys() <= documented.keys()
    every = [one for one in addresses(world.app, of.ids) if one[0] in documented.keys() - ELSEWHERE]
    assert {endpoint for endpoint, _, _ in every} == documented.keys() - ELSEWHERE
    wrong = {}
    for endpoint, method, address in sorted(every, key=turn):
        path = f"{address.partition('?')[0]}?{urlencode(QUERIES.get(endpoint, {}))}"
        answer = admin.ask(world.app, endpoint, method, path, of.ids)
        if answer.status >= 300 or str(answer.status) not in documented[endpoint]["responses"]:
            wrong[f"{endpoint}: {method} {path}"] = answer
    nothing(wrong)
