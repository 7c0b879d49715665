"""Jobs are found, looked at, stopped and run again from a shell, whosever they are, and over the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select

from app.container import Container
from app.storage.postgres.tables import AuditEvent
from tests.integration.dead_letters.conftest import Graveyard

Run = Callable[..., Result]


@pytest.fixture
def jobs(app: Flask) -> Run:
    return lambda *words: app.test_cli_runner().invoke(args=["jobs", *map(str, words)])


@pytest.fixture
def two(graves: Graveyard) -> tuple[UUID, UUID]:
    """Ada's: one that died and has a letter, and a newer one that waits."""
    dead = graves.one().job_id
    assert dead is not None
    return dead, graves.job()


def page(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def ids(result: Result) -> list[UUID]:
    return [UUID(one["job_id"]) for one in page(result)["items"]]


def test_jobs_of_everybody_are_listed_and_narrowed(jobs: Run, two: tuple[UUID, UUID]):
    dead, waiting = two
    assert ids(jobs("list", "--json")) == [waiting, dead]
    assert ids(jobs("list", "--json", "--state", "dead", "--error-code", "provider_refused")) == [dead]
    assert ids(jobs("list", "--json", "--job-id", waiting, "--owner-id", "ada")) == [waiting]
    assert ids(jobs("list", "--json", "--kind", "extract_file", "--younger-than", "1h")) == [waiting, dead]
    assert ids(jobs("list", "--json", "--queue", "dataset-transforms")) == []
    assert jobs("list", "--older-than", "1h").output == "no job matches\n"
    assert jobs("list", "--owner-id", "bob").output == "no job matches\n"
    text = jobs("list", "--state", "dead").output
    assert text.startswith(f"{dead} dead ")
    assert "extract_file of ada: provider_refused: the account" in text


def test_a_long_list_is_read_page_by_page(jobs: Run, two: tuple[UUID, UUID]):
    first = jobs("list", "--json", "--limit", 1)
    assert (ids(first), page(first)["total_count"]) == ([two[1]], 2)
    token = page(first)["next_cursor"]
    rest = jobs("list", "--json", "--limit", 1, "--after", token)
    assert (ids(rest), page(rest)["next_cursor"]) == ([two[0]], None)
    assert f"2 match; more: --after {token}" in jobs("list", "--limit", 1).stderr


WRONG: list[tuple[tuple[Any, ...], str]] = [
    (("list", "--state", "asleep"), "'--state'"),
    (("list", "--younger-than", "soon"), "must be a number with s, m, h or d"),
    (("list", "--scope-id", "7"), "scope_id needs scope_kind"),
    (("list", "--after", "xyz"), "cursor must be"),
    (("list", "--limit", "0"), "'--limit'"),
    (("show", "7"), "is not a valid UUID"),
    (("show", UUID(int=7)), f"no job {UUID(int=7)}"),
    (("cancel",), "'JOB_IDS...'"),
]


def test_what_is_wrong_is_named_and_ends_with_status_2(jobs: Run):
    for words, said in WRONG:
        result = jobs(*words)
        assert (result.exit_code, said in result.output) == (2, True), result.output


def test_a_dead_job_is_looked_at_and_run_again_on_record(
    jobs: Run, two: tuple[UUID, UUID], graves: Graveyard, container: Container
):
    dead, _ = two
    (letter,) = graves.indexed()
    text = jobs("show", dead).output
    assert "Recorded: for queue collection-transforms" in text
    assert "Given up: provider_refused: the account" in text
    assert f"dead letters: {letter.dead_letter_id}" in text
    told = page(jobs("show", dead, "--json"))
    assert (told["arguments"]["file_version"], told["can_run_again"], told["can_cancel"]) == (1, True, False)
    assert jobs("run-again", dead).output == f"{dead} runs again\n"
    assert graves.indexed(state=None)[0].state == "replayed"
    assert recorded(container, "job.run_again") == [("ada", str(dead))]


def test_a_waiting_job_is_cancelled_once_on_record(jobs: Run, two: tuple[UUID, UUID], container: Container):
    dead, waiting = two
    assert "never starts" in jobs("cancel", "--help").output
    assert page(jobs("cancel", waiting, "--json"))["state"] == "cancelled"
    assert jobs("cancel", waiting).output == "the job has ended already: it is cancelled\n"
    again = jobs("run-again", waiting, dead)
    assert (again.exit_code, again.output) == (2, "it does not run again: the job is cancelled\n")
    assert recorded(container, "job.cancelled") == [("ada", str(waiting))]


def recorded(container: Container, action: str) -> list[tuple[str | None, str | None]]:
    """Whose and which jobs the audit log says a user of this machine acted on."""
    with container.database.transaction() as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == action)).all()
        assert all(event.actor.startswith("operator:") for event in events)
        return [(event.owner_id, event.object_id) for event in events]


def test_an_admin_finds_them_over_the_api_with_the_same_filters(
    app: Flask, two: tuple[UUID, UUID], graves: Graveyard
):
    client, (dead, waiting) = app.test_client(), two
    query = "state=dead&owner_id=ada&queue=collection-transforms&error_code=provider_refused&younger_than=60"
    (found,) = client.get(f"/api/jobs?{query}").get_json()["items"]
    assert (found["job_id"], found["owner_id"], found["queue"]) == (str(dead), "ada", "collection-transforms")
    assert client.get("/api/jobs?older_than=3600").get_json()["items"] == []
    assert client.get(f"/api/jobs?job_id={waiting}").get_json()["total_count"] == 1
    for query, field in (
        ("queue=moon", "queue"),
        ("job_id=7", "job_id"),
        ("younger_than=-1", "younger_than"),
    ):
        answer = client.get(f"/api/jobs?{query}")
        assert (answer.status_code, answer.get_json()["field"]) == (400, field)
    told = client.get(f"/api/jobs/{dead}").get_json()
    assert told == {**told, **found}
    assert [one["what"] for one in told["timeline"]] == ["Recorded", "Given up"]
    assert told["dead_letter_ids"] == [graves.indexed()[0].dead_letter_id]
    assert client.post(f"/api/jobs/{dead}/run-again").get_json()["dead_letter_ids"] == told["dead_letter_ids"]
