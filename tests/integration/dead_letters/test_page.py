"""A letter's page in the panel: what it tells, where it leads, and what it hides."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from app.admin import bulks, letters, reading
from app.container import Container
from app.errors import InvalidInputError
from app.factory import create_app
from app.jobs.contracts import ExtractFile, decode
from app.security.principal import SINGLE_USER
from app.storage.postgres.tables import Collection
from app.storage.postgres.tables.dead_letters import LETTER_REASONS
from brokers import DeadReason
from tests.integration.dead_letters.conftest import Graveyard, message
from tests.support.domain import World

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
NEW = {
    "attempt": 1,
    "worker": "host-a:7",
    "version": "1.2.0",
    "waited_seconds": 75.0,
    "started_at": 1_760_000_000.0,
    "ended_at": 1_760_000_008.0,
    "error": "ProviderAwayError: no answer to Bearer abcdefgh12345",
    "next_delay_seconds": 30.0,
}
OLD = {"attempt": 2, "worker": "host-b:8", "started_at": 1_760_000_100.0, "error": "x"}


@pytest.fixture
def client(container: Container) -> Any:
    return create_app(container).test_client()


@pytest.fixture
def mine(container: Container) -> Graveyard:
    """Letters of the jobs of whoever looks."""
    return Graveyard(container, World(container.database, SINGLE_USER.owner_id))


def buried(graves: Graveyard, attempts: list[Any]) -> int:
    """Id of a letter with this history, of an error that was raised in the product."""
    job_id = graves.job()
    body = message(ExtractFile.kind, ExtractFile.queue, job_id=str(job_id), publication=0)
    body.options["attempts"] = attempts
    with pytest.raises(InvalidInputError) as caught:
        decode("token=abcdefgh12345", {})
    traceparent = f"00-{TRACE_ID}-b7ad6b7169203331-01"
    graves.store(body, caught.value, DeadReason.PERMANENT_ERROR, traceparent=traceparent)
    return graves.indexed()[-1].dead_letter_id


def page_of(client: Any, key: int) -> str:
    answer = client.get(f"/admin/dead-letters/{key}")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.text)


def test_a_letter_leads_to_what_it_is_about_to_its_trace_and_its_runbook(client: Any, mine: Graveyard):
    page = page_of(client, buried(mine, [NEW]))
    collection = f"/collections/{mine.collection}"
    assert re.search(rf'<dt>File</dt><dd><a href="{collection}">[^<]+\.txt</a>', page)
    assert re.search(rf'<dt>Collection transform</dt><dd><a href="{collection}">[^<]+</a>', page)
    assert f'href="https://traces.test/trace/{TRACE_ID}"' in page
    runbook = re.search(r'href="(/admin/runbooks/\w+)#(permanent-error)"', page)
    assert runbook
    assert f'<h3 id="{runbook[2]}">' in client.get(runbook[1]).text


def test_things_of_others_are_named_to_an_admin_without_a_link_and_gone_ones_by_their_number(
    client: Any, graves: Graveyard, container: Container
):
    key = buried(graves, [NEW])
    assert re.search(r"<dt>File</dt><dd>[^<]+\.txt</dd>", page_of(client, key))
    with container.database.transaction() as session:
        session.delete(session.get_one(Collection, graves.collection))
    assert re.search(
        r'<dt>File</dt><dd><span class="mono">\d+</span> <span class="soft">gone', page_of(client, key)
    )


def test_a_file_of_somebody_else_counts_as_gone(client: Any, graves: Graveyard, container: Container):
    theirs = World(container.database, "bob")
    file_id = theirs.file(theirs.collection(), "plans of bob.pdf")
    with container.database.transaction() as session:
        job_id = container.outbox.record(
            session, ExtractFile(graves.transform, file_id, 1), owner_id=graves.world.owner_id
        )
    graves.bury(job_id, InvalidInputError("no"))
    detail = client.get(f"/api/dead-letters/{graves.indexed()[-1].dead_letter_id}").json
    assert (detail["subjects"][0]["id"], detail["subjects"][0]["name"]) == (file_id, None)
    assert detail["letter"]["document"] is None


def test_every_attempt_tells_what_was_written_down_and_the_rest_is_unknown(client: Any, mine: Graveyard):
    page = page_of(client, buried(mine, [NEW, OLD, "nonsense", {"attempt": {}, "worker": ["x"]}]))
    told = [
        re.findall(r"<dd[^>]*>(.*?)</dd>", one) for one in re.findall(r'<dl class="attempt.*?</dl>', page)
    ]
    assert told == [
        ["host-a:7", "1.2.0", "1 min 15 s", "8 s", "30 s later"],
        ["host-b:8", "unknown", "unknown", "unknown", "unknown"],
        ["unknown", "unknown", "unknown", "unknown", "none, it was given up"],
    ]


def test_secrets_stay_masked_in_every_part_of_the_page_and_frames_of_libraries_are_folded(
    client: Any, mine: Graveyard
):
    key = buried(mine, [NEW])
    page = page_of(client, key)
    assert "abcdefgh12345" not in page
    assert "Bearer •••" in page
    folded = re.findall(r"<details><summary>\d+ frames? of libraries</summary><pre>(.*?)</pre>", page)
    assert folded
    assert not any("app/jobs/contracts.py" in one for one in folded)
    assert "app/jobs/contracts.py" in re.sub(r"<details>.*?</details>", "", page)
    revealed = client.post(f"/admin/dead-letters/{key}/reveal")
    assert "abcdefgh12345" in revealed.text


def test_the_api_tells_of_the_same_things(client: Any, mine: Graveyard):
    key = buried(mine, [NEW])
    detail = client.get(f"/api/dead-letters/{key}").json
    file, transform = detail["subjects"]
    assert (file["kind"], file["page"], file["page_id"]) == ("file", "collection", mine.collection)
    assert (transform["kind"], transform["id"]) == ("collection_transform", mine.transform)
    assert detail["letter"]["document"] == file["name"]
    assert detail["content"]["attempts"][0]["version"] == "1.2.0"


def test_every_reason_has_its_section_in_the_runbook_and_no_other_page_is_served(client: Any):
    text = client.get("/admin/runbooks/SemanticExplorerDeadLetters").text
    assert [reason for reason in LETTER_REASONS if f'<h3 id="{reason}">' not in text] == []
    assert 'href="/admin/runbooks/SemanticExplorerStreamBacklog"' in text
    index = client.get("/admin/runbooks/").text
    assert re.search(
        r"SemanticExplorerHighErrorRate</a> <span[^>]*>More than 1 % of requests were [^<]+</", index
    )
    assert '<a href="/admin/runbooks/">Runbooks</a>' in client.get("/admin/queues/").text
    for name in ("Nothing", "..%2Fadmin", "README.md"):
        assert client.get(f"/admin/runbooks/{name}").status_code == 404


def test_a_list_of_letters_of_any_state_says_why_nothing_can_be_done_with_all_and_leads_to_the_open_ones(
    client: Any, mine: Graveyard
):
    key = buried(mine, [NEW])
    at = "/admin/dead-letters/list/"
    any_state = client.get(f"{at}?flt0_state=&flt1_queue=collection-transforms").text
    assert "Replay all that match" not in any_state
    (link,) = re.findall(r'href="([^"]+)">Show the open ones', any_state)
    opened = client.get(link.replace("&amp;", "&")).text
    assert "Only open letters" not in opened
    assert all(words in opened for words in ("Replay all that match", f"/admin/dead-letters/{key}"))
    assert 'name="filter-queue" value="collection-transforms"' in opened


def test_more_causes_than_a_page_holds_are_on_other_pages(
    client: Any, mine: Graveyard, monkeypatch: pytest.MonkeyPatch
):
    at = "/admin/dead-letters/"
    for error in (InvalidInputError("no"), ValueError("neither"), KeyError("nor")):
        mine.die(error)
    mine.indexed()
    assert 'aria-label="Pages"' not in client.get(at).text
    monkeypatch.setattr(letters, "_GROUPS", 2)
    first, second = (client.get(f"{at}?page={number}").text for number in (1, 2))
    named = [re.findall(r'id="cause-(\w+)"', page) for page in (first, second)]
    assert ([len(one) for one in named], len({*named[0], *named[1]})) == ([2, 1], 3)
    assert f'href="{at}?page=2"' in first
    assert 'hx-get="/admin/parts/dead-letters?page=2"' in second
    assert re.findall(r'id="cause-(\w+)"', client.get("/admin/parts/dead-letters?page=2").text) == named[1]
    assert "No cause is on this page" in client.get(f"{at}?page=9").text
    found = client.get("/api/dead-letters/groups?limit=2&offset=2").json
    assert [one["fingerprint"] for one in found["items"]] == named[1]
    assert (found["total_count"], found["limit"], found["offset"]) == (3, 2, 2)


def test_the_list_is_sorted_by_what_one_asks_for(client: Any, mine: Graveyard):
    often, once = buried(mine, [NEW, OLD]), buried(mine, [NEW])
    for query, wanted in (
        ("", [once, often]),
        ("sort=6", [often, once]),
        ("sort=5", [once, often]),
        ("sort=5&desc=1", [often, once]),
        ("sort=99&desc=1", [once, often]),
    ):
        page = client.get(f"/admin/dead-letters/list/?{query}").text
        assert [int(key) for key in re.findall(r'href="/admin/dead-letters/(\d+)"', page)] == wanted, query


def test_all_letters_that_match_are_exported_however_many_a_little_at_a_time(
    client: Any, mine: Graveyard, container: Container, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "_EXPORTED_AT_ONCE", 2)
    mine.die(ValueError("another"))
    keys = [str(one.dead_letter_id) for one in mine.some(5)[1:]]
    at = "/admin/dead-letters/list/export/csv/"
    for query in ("flt0_search=frozen", "flt0_search=frozen&sort=6"):
        answer = client.get(f"{at}?{query}")
        _, *rows = csv.reader(io.StringIO(answer.text))
        assert answer.mimetype == "text/csv"
        assert [row[0] for row in rows] == list(reversed(keys))
    assert len(client.get(at).text.splitlines()) == 1 + 6
    assert client.get(f"{at}?flt0_search=nowhere").text.count("\n") == 1
    pool: Any = container.database.engine.pool
    assert pool.checkedout() == 0


def test_bulk_jobs_have_pages_that_renew_themselves(
    client: Any, mine: Graveyard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulks, "_SHOWN", 2)
    mine.some(1)
    order = {"act": "discard", "why": "test data", "filter": {}}
    made = [client.post("/api/dead-letters/bulks", json=order).json["bulk"]["bulk_id"] for _ in range(3)]
    at = "/admin/dead-letters/bulks/"
    listed = [re.findall(r'id="bulk-(\d+)"', client.get(f"{at}?page={page}").text) for page in (1, 2, 3)]
    assert [[int(one) for one in page] for page in listed] == [[made[2], made[1]], [made[0]], []]
    assert 'data-live="idle"' in client.get(at).text
    client.post(f"/api/dead-letters/bulks/{made[0]}/start")
    part = client.get("/admin/parts/bulks?page=2").text
    assert 'data-live="busy"' in part
    assert "running" in part


def test_the_list_searches_and_filters_and_keeps_both_in_its_address(client: Any, mine: Graveyard):
    key = buried(mine, [NEW])
    name = mine.indexed()[-1].document
    at = "/admin/dead-letters/list/"
    for query in (f"flt0_search={name}", "flt0_queue=collection-transforms", "flt0_younger_than=3600"):
        assert f"/admin/dead-letters/{key}" in client.get(f"{at}?{query}").text, query
    for query in ("flt0_search=nowhere", "flt0_queue=dataset-transforms", "flt0_older_than=3600"):
        assert "No letter matches" in client.get(f"{at}?{query}").text, query
    page = client.get(f"{at}?flt0_search=Contract&flt1_queue=collection-transforms").text
    assert 'name="flt0_search" value="Contract"' in page
    assert 'name="filter-search" value="Contract"' in page  # bulk jobs take it, too
    assert "Search was left out of the filter" in client.get(f"{at}?flt0_search=--").text
