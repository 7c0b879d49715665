"""How the letters fare that a bulk job sent again: seen on its page, and heard by its stop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from flask import Flask

from app.container import Container
from app.security.principal import SINGLE_USER
from app.services.bulk_outcomes import Successors
from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetterView
from app.services.job_replay import revive
from app.services.letter_bulks import BulkOrder, LetterBulks
from tests.integration.dead_letters.conftest import ADMIN, FROZEN, Graveyard
from tests.support.domain import World

TRIAL = BulkOrder("replay", "is it mended?", per_second=500, canary=11, stop_on_failure_share=0.2)


@pytest.fixture
def graves(container: Container) -> Graveyard:
    """Letters of the jobs of whoever looks at the page."""
    return Graveyard(container, World(container.database, SINGLE_USER.owner_id))


@pytest.fixture
def bulks(container: Container) -> LetterBulks:
    return container.services.letter_bulks


def begun(bulks: LetterBulks, order: BulkOrder = TRIAL, wanted: LetterFilter | None = None) -> int:
    bulk_id = bulks.prepare(ADMIN, wanted or LetterFilter(), order).bulk.bulk_id
    bulks.start(ADMIN, bulk_id)
    return bulk_id


def tried(graves: Graveyard, container: Container, bulks: LetterBulks) -> tuple[int, list[DeadLetterView]]:
    """A bulk job over twelve letters that has tried eleven: three died again, two succeeded."""
    letters = graves.some(12)
    bulk_id = begun(bulks)
    container.bulk_runs.run_next()
    for letter in letters[:3]:
        die_again(graves, letter)
    for letter in letters[3:5]:
        succeed(container, letter)
    graves.indexed()
    return bulk_id, letters


def die_again(graves: Graveyard, letter: DeadLetterView) -> None:
    assert letter.job_id is not None
    assert revive(graves.container.services.jobs, letter.job_id, publication=1)
    lineage = {"dead_letter": letter.sequence, "depth": 1}
    graves.bury(letter.job_id, FROZEN, publication=1, replay_of=lineage)


def succeed(container: Container, letter: DeadLetterView) -> None:
    assert letter.job_id is not None
    jobs = container.services.jobs
    assert revive(jobs, letter.job_id, publication=1)
    run = jobs.begin(letter.job_id, "w", publication=1)
    assert run is not None
    with container.database.transaction() as session:
        jobs.finish(session, run)


def test_a_trial_tells_how_its_letters_fare_on_page_api_and_command(
    graves: Graveyard, container: Container, bulks: LetterBulks, app: Flask
):
    bulk_id, letters = tried(graves, container, bulks)
    assert bulks.preview(ADMIN, bulk_id).successors == Successors(succeeded=2, died_again=3, waiting=6)
    page = app.test_client().get(f"/admin/dead-letters/bulks/{bulk_id}").text
    assert all(words in page for words in ("2 succeeded", "3 died again", "6 wait or run"))
    answer = app.test_client().get(f"/api/dead-letters/bulks/{bulk_id}").get_json()
    assert answer["successors"] == {"succeeded": 2, "died_again": 3, "waiting": 6, "unknown": 0}
    told = app.test_cli_runner().invoke(args=["dlq", "bulk", "show", str(bulk_id)]).output
    assert "of those sent again 2 succeeded, 3 died again, 6 wait or run, 0 unknown" in told
    again = {one.dead_letter_id: one.died_again_as for one in bulks.problems(ADMIN, bulk_id)}
    children = {each.parent_id: each.dead_letter_id for each in graves.indexed() if each.parent_id}
    assert again == children
    assert list(again) == [each.dead_letter_id for each in letters[:3]]


def test_the_page_leads_to_the_letters_that_the_bulk_job_ended(
    graves: Graveyard, container: Container, bulks: LetterBulks, app: Flask
):
    bulk_id, letters = tried(graves, container, bulks)
    client = app.test_client()
    link = f"/admin/dead-letters/list/?flt0_bulk_id={bulk_id}&amp;flt1_state="
    assert link in client.get(f"/admin/dead-letters/bulks/{bulk_id}").text
    found = client.get(link.replace("&amp;", "&")).text
    assert f'href="/admin/dead-letters/{letters[0].dead_letter_id}"' in found
    assert f'href="/admin/dead-letters/{letters[-1].dead_letter_id}"' not in found


def test_letters_that_died_again_stop_a_bulk_replay_until_somebody_lets_it_go_on(
    graves: Graveyard, container: Container, bulks: LetterBulks
):
    bulk_id, _ = tried(graves, container, bulks)
    bulks.resume(ADMIN, bulk_id)
    container.bulk_runs.run_next()
    stopped = bulks.get(ADMIN, bulk_id)
    assert (stopped.state, stopped.done, stopped.failed) == ("stopped", 11, 0)
    assert stopped.note == "3 of 11 letters failed, 3 of them by dying again"
    resumed = bulks.resume(ADMIN, bulk_id)
    assert (resumed.stop_on_failure_share, "does not stop again" in (resumed.note or "")) == (None, True)
    container.bulk_runs.run_next()
    assert (bulks.get(ADMIN, bulk_id).state, bulks.get(ADMIN, bulk_id).done) == ("finished", 12)


def test_a_bulk_job_says_for_which_other_one_it_waits(
    graves: Graveyard, container: Container, bulks: LetterBulks, app: Flask
):
    graves.die(number=2)
    graves.die(ValueError("another cause"))
    first, second = {each.fingerprint: each for each in graves.indexed()}
    order = replace(TRIAL, canary=0)
    ids = [begun(bulks, order, LetterFilter(fingerprint=one)) for one in (first, second)]
    assert bulks.preview(ADMIN, ids[1]).waits_for is None, "a worker is about to come"
    seen: list[str] = []

    def look() -> bool:
        told = (app.test_cli_runner().invoke(args=["dlq", "bulk", "show", str(one)]) for one in ids)
        seen.extend(each.output for each in told)
        seen.append(app.test_client().get(f"/admin/dead-letters/bulks/{ids[1]}").text)
        return False

    container.bulk_runs.run_next(look)
    assert ["waits for bulk" in one.lower() for one in seen] == [False, True, True]
    assert f"waits for bulk {ids[0]}" in seen[1]
    assert bulks.preview(ADMIN, ids[1]).waits_for is None, "the worker has let go"


def test_a_discard_has_no_successors(graves: Graveyard, container: Container, bulks: LetterBulks, app: Flask):
    graves.some(1)
    bulk_id = begun(bulks, BulkOrder("discard", "test files"))
    container.bulk_runs.run_next()
    shown = app.test_cli_runner().invoke(args=["dlq", "bulk", "show", str(bulk_id), "--json"])
    assert json.loads(shown.output)["successors"] is None
