"""Who may look and act in the operators' panel, what is on record of it, and what its pages may load."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError
from werkzeug.test import TestResponse

from app.admin.reading import ReadSession
from app.container import Container
from app.jobs.contracts import PlanCollectionTransform
from app.storage.postgres.tables import AuditEvent, Job, QueuePause, User
from brokers import control
from tests.support.domain import World
from tests.support.identity import PUBLIC_URL, Person

QUEUE = "collection-transforms"
_OURS = {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}


@pytest.fixture
def streams(nats_url: str, container: Container) -> None:
    container.apply_topology(dry_run=False)


@pytest.fixture
def signed_in(browser: Callable[[], Person]) -> Callable[[str], Person]:
    def sign_in(name: str) -> Person:
        person = browser()
        assert person.sign_in(name).status_code == 303
        return person

    return sign_in


@pytest.fixture
def job_of(container: Container) -> Callable[[str], UUID]:
    """A plan that waits, of somebody who has signed in."""

    def make(username: str) -> UUID:
        with container.database.transaction() as session:
            owner = session.scalars(select(User.owner_id).where(User.username == username)).one()
        world = World(container.database, owner)
        transform = world.collection_transform(world.collection(), world.dataset())
        with container.database.transaction() as session:
            return container.outbox.record(session, PlanCollectionTransform(transform), owner_id=owner)

    return make


def act(person: Person, path: str, headers: dict[str, str] | None = None, **form: Any) -> TestResponse:
    """Send a form as a browser does from a page of this server, unless told otherwise."""
    sent = _OURS if headers is None else headers
    return person.client.post(path, base_url=PUBLIC_URL, data=form, headers=sent)


def addresses(app: Flask, method: str) -> list[str]:
    """Every address of the panel that takes a method, with something in place of its parts."""
    values = {"filename": "panel.css", "export_type": "csv", "queue": QUEUE, "act": "start"}
    found = []
    with app.test_request_context(base_url=PUBLIC_URL):
        adapter = app.url_map.bind("explorer.test", url_scheme="https")
        for rule in app.url_map.iter_rules():
            if rule.rule.startswith("/admin") and method in (rule.methods or ()):
                ids = {name: uuid4() if name == "job_id" else 1 for name in rule.arguments}
                known = {name: value for name, value in values.items() if name in rule.arguments}
                found.append(adapter.build(rule.endpoint, {**ids, **known}, method=method))
    return found


def test_nobody_sees_anything_of_the_panel_without_signing_in(
    app: Flask, browser: Callable[[], Person]
) -> None:
    stranger = browser()
    assert len(addresses(app, "GET")) > 10
    for path in addresses(app, "GET"):
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/login?next="), path
    for path in addresses(app, "POST"):
        assert act(stranger, path).headers["Location"].startswith("/login"), path


def test_a_viewer_looks_at_every_page_and_can_do_nothing(
    app: Flask, signed_in: Callable[[str], Person], streams: None
) -> None:
    vera = signed_in("vera")
    for path in ("/admin/dead-letters/", "/admin/dead-letters/list/", "/admin/jobs/", "/admin/queues/"):
        page = vera.get(path)
        assert page.status_code == 200, path
        assert '<form method="post" action="/admin' not in page.text
        assert "data-open" not in page.text
    for path in addresses(app, "POST"):
        assert act(vera, path).status_code == 403, path


def test_operators_see_and_cancel_their_own_jobs_and_admins_everybodys_on_record(
    container: Container, signed_in: Callable[[str], Person], job_of: Callable[[str], UUID]
) -> None:
    ada, bob, root = signed_in("ada"), signed_in("bob"), signed_in("root")
    hers, first, second = job_of("ada"), job_of("bob"), job_of("bob")
    listed = ada.get("/admin/jobs/").text
    assert str(hers) in listed
    assert str(first) not in listed
    assert str(first) not in ada.get("/admin/jobs/export/csv/").text
    assert ada.get(f"/admin/jobs/{first}").status_code == 404
    assert act(ada, f"/admin/jobs/{first}/cancel").status_code == 404
    assert act(bob, f"/admin/jobs/{first}/cancel").status_code == 303
    assert act(bob, f"/admin/jobs/{first}/cancel").status_code == 409
    assert act(root, f"/admin/jobs/{second}/cancel").status_code == 303
    with container.database.transaction() as session:
        states = {job.job_id: job.state for job in session.scalars(select(Job))}
        events = session.execute(
            select(AuditEvent.actor, AuditEvent.owner_id, AuditEvent.object_id)
            .where(AuditEvent.action == "job.cancelled")
            .order_by(AuditEvent.id)
        ).all()
        owner = {user.username: user.owner_id for user in session.scalars(select(User))}
    assert states == {hers: "pending", first: "cancelled", second: "cancelled"}
    assert [tuple(event) for event in events] == [
        (owner["bob"], owner["bob"], str(first)),
        (owner["root"], owner["bob"], str(second)),
    ]


def test_the_jobs_list_finds_by_id_state_kind_and_age(
    signed_in: Callable[[str], Person], job_of: Callable[[str], UUID]
) -> None:
    ada = signed_in("ada")
    one, other = job_of("ada"), job_of("ada")
    by_id = ada.get(f"/admin/jobs/?flt0_job_id={one}&flt0_state=").text
    assert str(one) in by_id
    assert str(other) not in by_id
    assert str(one) in ada.get("/admin/jobs/?flt0_state=pending&flt1_kind=plan_collection_transform").text
    assert "No job matches" in ada.get("/admin/jobs/?flt0_state=dead").text
    assert "Id was left out of the filter" in ada.get("/admin/jobs/?flt0_job_id=no-id-at-all").text
    assert str(one) in ada.get("/admin/jobs/?flt0_younger_than=3600").text
    assert "No job matches" in ada.get("/admin/jobs/?flt0_older_than=3600").text
    assert "Recorded within was left out" in ada.get("/admin/jobs/?flt0_younger_than=nan").text


def test_programs_find_and_act_on_jobs_as_the_panel_does(
    signed_in: Callable[[str], Person], job_of: Callable[[str], UUID]
) -> None:
    ada, root, vera, _ = map(signed_in, ("ada", "root", "vera", "bob"))
    hers, his = job_of("ada"), job_of("bob")
    bob = _jobs(root, f"job_id={his}")[0]["owner_id"]
    assert {one["job_id"] for one in _jobs(root)} == {str(hers), str(his)}
    assert [one["job_id"] for one in _jobs(ada)] == [str(hers)]
    assert [one["job_id"] for one in _jobs(root, f"owner_id={bob}&younger_than=3600")] == [str(his)]
    assert _jobs(ada, f"owner_id={bob}") == _jobs(vera) == []
    assert ada.get(f"/api/jobs/{his}").status_code == 404
    assert ada.send("POST", f"/api/jobs/{his}/cancel", {}).status_code == 404
    assert vera.send("POST", f"/api/jobs/{hers}/cancel", {}).status_code == 403
    told = root.send("POST", f"/api/jobs/{his}/cancel", {}).json
    assert told is not None
    assert (told["state"], told["can_cancel"], told["timeline"][-1]["what"]) == (
        "cancelled",
        False,
        "Cancelled",
    )


def _jobs(person: Person, query: str = "") -> list[dict[str, Any]]:
    answer = person.get(f"/api/jobs?{query}").json
    assert answer is not None
    return list(answer["items"])


def test_an_age_that_is_no_number_is_left_out_of_the_filter(signed_in: Callable[[str], Person]) -> None:
    vera = signed_in("vera")
    for age in ("nan", "inf", "-1", "soon"):
        page = vera.get(f"/admin/dead-letters/list/?flt0_younger_than={age}")
        assert (page.status_code, "Died within was left out" in page.text) == (200, True), age


def test_what_the_panel_reads_through_lets_nothing_be_written(
    app: Flask, container: Container, signed_in: Callable[[str], Person], job_of: Callable[[str], UUID]
) -> None:
    assert signed_in("ada")
    job_of("ada")
    reading = ReadSession(lambda: container.database)
    with app.app_context():
        assert reading.current().scalars(select(Job.state)).one() == "pending"
        with pytest.raises(InternalError, match="read-only transaction"):
            reading.current().execute(update(Job).values(state="dead"))
        reading.close()


def test_only_admins_pause_a_queue_for_a_while_with_a_reason_that_stays_on_record(
    container: Container, signed_in: Callable[[str], Person], streams: None
) -> None:
    root, path = signed_in("root"), f"/admin/queues/{QUEUE}/pause"
    assert act(signed_in("ada"), path, minutes=15, reason="why not").status_code == 403
    assert act(root, path, minutes=15, reason=" ").status_code == 400
    assert act(root, path, until="2001-01-01T00:00", reason="late").status_code == 400
    assert act(root, path, minutes=60 * 24 * 30, reason="long").status_code == 400
    assert act(root, "/admin/queues/none/pause", minutes=15, reason="x").status_code == 404
    assert control.paused_until(container.broker, QUEUE) is None

    assert act(root, path, minutes=15, reason="the provider <is> down").status_code == 303
    until = control.paused_until(container.broker, QUEUE)
    assert until is not None
    assert abs(until - datetime.now(UTC) - timedelta(minutes=15)) < timedelta(minutes=1)
    page = root.get("/admin/queues/").text
    assert "the provider &lt;is&gt; down" in page
    assert "Resumes in" in page

    assert act(root, f"/admin/queues/{QUEUE}/resume").status_code == 303
    assert control.paused_until(container.broker, QUEUE) is None
    with container.database.transaction() as session:
        actions = session.scalars(
            select(AuditEvent.action).where(AuditEvent.object_id == QUEUE).order_by(AuditEvent.id)
        ).all()
        pause = session.scalars(select(QueuePause)).one()
    assert actions == ["queue.paused", "queue.resumed"]
    assert pause.resumed_by == pause.paused_by


def test_programs_read_and_pause_queues_as_the_panel_does(
    signed_in: Callable[[str], Person], streams: None
) -> None:
    root, body = signed_in("root"), {"minutes": 5, "reason": "the provider is down"}
    assert signed_in("bob").send("POST", f"/api/queues/{QUEUE}/pause", body).status_code == 403
    assert root.send("POST", f"/api/queues/{QUEUE}/pause", {**body, "minutes": 0}).status_code == 400
    both = root.send("POST", f"/api/queues/{QUEUE}/pause", {**body, "until": "2030-01-01T00:00:00Z"})
    assert (both.status_code, "one of minutes and until" in both.text) == (400, True)
    late = {"until": "2030-01-01T00:00:00Z", "reason": "late"}
    assert "at most 3 days away" in root.send("POST", f"/api/queues/{QUEUE}/pause", late).text
    assert root.send("POST", f"/api/queues/{QUEUE}/pause", body).status_code == 204
    paused = _entry(root)
    assert paused["pause_reason"] == "the provider is down"
    assert (paused["workers"], paused["waiting"], paused["dead_letters"]) == (0, 0, 0)
    assert root.send("POST", f"/api/queues/{QUEUE}/resume", {}).status_code == 204
    assert _entry(root)["paused_until"] is None
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"until": until, "reason": "a move"}
    assert root.send("POST", f"/api/queues/{QUEUE}/pause", body).status_code == 204
    assert _entry(root)["paused_until"][:16] == until[:16]
    assert root.send("POST", f"/api/queues/{QUEUE}/resume", {}).status_code == 204


def _entry(person: Person) -> dict[str, Any]:
    answer = person.get("/api/queues").json
    assert answer is not None
    return next(one for one in answer["queues"] if one["queue"] == QUEUE)


def test_the_page_names_what_differs_from_the_intended_streams(
    container: Container, signed_in: Callable[[str], Person], streams: None
) -> None:
    vera, connection = signed_in("vera"), container.broker.connection
    assert "The server has what it is meant to have" in vera.get("/admin/queues/").text
    assert _drifting(vera) == []
    connection.run(connection.session().api("STREAM.DELETE.DLQ_RECORDS"))
    page = vera.get("/admin/queues/").text
    assert re.search(r"DLQ_RECORDS</span>.*?missing", page, re.DOTALL)
    assert _drifting(vera) == [("DLQ_RECORDS", True)]
    assert vera.get("/api/queues/schedules").json == {"items": []}


def _drifting(person: Person) -> list[tuple[str, bool]]:
    found = person.get("/api/queues/configuration").json
    assert found is not None
    drifting = [(one["name"], one["missing"]) for one in found["items"] if one["drifts"]]
    assert found["drifts"] is bool(drifting)
    return drifting


def test_a_page_tells_that_nats_is_away_and_shows_the_rest(
    container: Container, signed_in: Callable[[str], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.errors import UnavailableError
    from app.services.queues import Queues

    def away(*_: Any) -> Any:
        raise UnavailableError("NATS: nobody answers")

    for verb in ("board", "schedules", "configuration"):
        monkeypatch.setattr(Queues, verb, away)
    vera = signed_in("vera")
    for path in ("/admin/queues/", "/admin/parts/queues"):
        page = vera.get(path)
        assert page.status_code == 200
        assert "NATS: nobody answers" in page.text


def test_a_list_says_that_postgres_is_away_or_too_slow(
    signed_in: Callable[[str], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    vera = signed_in("vera")
    for error in (
        OperationalError("SELECT", None, Exception("too slow")),
        NoFreeConnectionError("no slot was free"),
    ):

        def fail(_: ReadSession, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(ReadSession, "current", fail)
        page = vera.get("/admin/jobs/")
        assert page.status_code == 503
        assert re.search("Postgres: (too slow|no slot was free)", page.text)


def test_scripts_and_styles_of_a_page_carry_a_nonce_of_their_own(
    signed_in: Callable[[str], Person],
) -> None:
    vera, seen = signed_in("vera"), set()
    for _ in range(2):
        page = vera.get("/admin/dead-letters/")
        policy = page.headers["Content-Security-Policy"]
        nonce = re.findall(r"script-src 'nonce-([^']+)';", policy)[0]
        loaded = re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*>", page.text)
        assert loaded
        assert all(f'nonce="{nonce}"' in one for one in loaded)
        assert "unsafe" not in policy
        assert "style=" not in page.text
        seen.add(nonce)
    assert len(seen) == 2


def test_forms_of_other_sites_are_refused(signed_in: Callable[[str], Person]) -> None:
    root = signed_in("root")
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}
    assert act(root, f"/admin/queues/{QUEUE}/resume", elsewhere).status_code == 403
    assert act(root, f"/admin/queues/{QUEUE}/resume", {}).status_code == 403
