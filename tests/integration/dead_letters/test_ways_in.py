"""The API and `flask dlq` do what the services do, and speak JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import delete

from app.commands import dlq as dlq_commands
from app.container import Container
from app.services.dead_letters import DeadLetters
from app.storage.postgres.tables import DeadLetterRow
from tests.integration.dead_letters.conftest import Graveyard

Flow = Callable[..., Any]


@pytest.fixture
def client(app: Flask) -> Any:
    return app.test_client()


@pytest.fixture
def dlq(app: Flask) -> Callable[..., Result]:
    return lambda *words: app.test_cli_runner().invoke(args=["dlq", *map(str, words)])


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_api_leads_from_a_cause_to_a_replayed_letter(client: Any, graves: Graveyard):
    graves.some(3)
    (group,) = client.get("/api/dead-letters/groups").json["items"]
    assert (group["open_count"], len(group["curve"])) == (3, 24)
    path = f"/api/dead-letters?fingerprint={group['fingerprint']}&limit=2"
    page = client.get(path).json
    assert (len(page["items"]), page["has_more"]) == (2, True)
    rest = client.get(f"{path}&continuation_token={page['continuation_token']}").json
    assert len(rest["items"]) == 1
    key = rest["items"][0]["dead_letter_id"]
    detail = client.get(f"/api/dead-letters/{key}").json
    assert detail["content"]["payload"]["kwargs"]["job_id"] == detail["letter"]["job_id"]
    assert client.post(f"/api/dead-letters/{key}/reveal").json["content"]["masked"] is False
    edit = {"arguments": detail["letter"]["arguments"] | {"file_version": 7}, "dry_run": True}
    (change,) = client.post(f"/api/dead-letters/{key}/edit", json=edit).json["changes"]
    assert change == {"path": "file_version", "before": 1, "after": 7}
    assert client.post(f"/api/dead-letters/{key}/discard", json={"why": ""}).status_code == 400
    assert client.post(f"/api/dead-letters/{key}/discard", json={"why": "x"}).json["state"] == "discarded"
    assert client.post(f"/api/dead-letters/{key}/undo").json["state"] == "open"
    assert client.post(f"/api/dead-letters/{key}/replay", json={"why": "y"}).json["state"] == "replayed"
    assert client.post(f"/api/dead-letters/{key}/replay", json={}).status_code == 409
    assert client.get("/api/dead-letters?colour=red").status_code == 400
    assert client.get("/api/dead-letters?argument=red").json["field"] == "argument"


def test_the_api_steers_a_bulk_job(client: Any, graves: Graveyard, container: Container):
    graves.some(3)
    order = {"act": "replay", "why": "paid", "filter": {"actor": "extract_file"}, "canary": 1}
    made = client.post("/api/dead-letters/bulks", json=order)
    assert made.status_code == 201
    at = f"/api/dead-letters/bulks/{made.json['bulk']['bulk_id']}"
    assert client.post(f"{at}/pause").status_code == 409
    assert client.post(f"{at}/start").json["state"] == "running"
    container.bulk_runs.run_next()
    assert client.get(at).json["bulk"]["state"] == "paused"
    assert client.post(f"{at}/resume").json["state"] == "running"
    assert client.post(f"{at}/cancel").json["state"] == "cancelled"
    assert client.get(f"{at}/problems").json == {"items": []}
    assert client.get("/api/dead-letters/bulks").json["total_count"] == 1
    assert client.post("/api/dead-letters/bulks", json={**order, "filter": {"colour": 1}}).status_code == 400


def test_letters_are_exported_one_a_line_without_their_secrets(client: Any, graves: Graveyard):
    graves.some(2)
    answer = client.get("/api/dead-letters/export?payloads=true")
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.mimetype == "application/x-ndjson"
    assert [each["content"]["masked"] for each in exported] == [True, True]
    assert "sk-" not in answer.text


def test_the_commands_do_the_same(dlq: Callable[..., Result], graves: Graveyard, container: Container):
    graves.die(number=4)
    assert lines(dlq("index", "--json"))[0]["added"] == 4
    first, second, third, fourth = reversed(lines(dlq("list", "--json"))[0]["items"])
    assert "frozen for <n> days" in dlq("groups").output
    key, fingerprint = first["dead_letter_id"], first["fingerprint"]
    assert f'"{first["job_id"]}"' in dlq("show", key).output
    edit = ("edit", key, "--set", "file_version=3")
    assert "file_version: 1 > 3\nnothing was done" in dlq(*edit, "--dry-run").output
    assert lines(dlq(*edit, "--json"))[0]["job_id"]
    assert "discarded" in dlq("discard", second["dead_letter_id"], "--why", "x").output
    assert "open again" in dlq("undo", second["dead_letter_id"]).output
    assert "replayed as" in dlq("replay", second["dead_letter_id"]).output
    again = dlq("replay", second["dead_letter_id"])
    assert again.exit_code == 2
    assert "was replayed by operator:" in again.output
    bulk = lines(dlq("bulk", "discard", "--fingerprint", fingerprint, "--why", "x", "--start", "--json"))[0]
    container.bulk_runs.run_next()
    number = bulk["bulk"]["bulk_id"]
    assert "finished: 2 done, 0 skipped, 0 failed of 2" in dlq("bulk", "show", number).output
    assert dlq("bulk", "cancel", number).exit_code == 2
    exported = lines(dlq("export", "--bulk-id", number, "--state", "any"))
    assert [one["state"] for one in exported] == ["discarded", "discarded"]
    assert len(lines(dlq("watch", "--state", "any", "--times", 1, "--json"))) == 4
    assert {third["state"], fourth["state"]} == {"open"}


def test_a_watch_shows_every_letter_also_of_a_burst(
    dlq: Callable[..., Result], graves: Graveyard, monkeypatch: pytest.MonkeyPatch
):
    first, bursts, after = graves.one(), iter([5]), DeadLetters.after
    monkeypatch.setattr(dlq_commands, "_WATCHED", 2)

    def meanwhile(letters: DeadLetters, *asked: Any, **more: Any) -> Any:
        graves.some(next(bursts, 0))
        return after(letters, *asked, **more)

    monkeypatch.setattr(DeadLetters, "after", meanwhile)
    seen = [one["dead_letter_id"] for one in lines(dlq("watch", "--times", 4, "--every", 0, "--json"))]
    assert seen == [one.dead_letter_id for one in graves.indexed()]
    assert (seen[0], len(seen)) == (first.dead_letter_id, 6)


def test_the_api_moves_and_delays_and_takes_bulk_discards_back(
    client: Any, graves: Graveyard, container: Container
):
    first, second, third, fourth = (each.dead_letter_id for each in graves.some(4))
    at = f"/api/dead-letters/{first}"
    assert client.post(f"{at}/read").status_code == 204
    assert client.get(at).json["letter"]["read_at"]
    (destination,) = client.get(f"{at}/destinations").json["items"]
    assert destination["kind"] == "plan_collection_transform"
    assert client.post(f"{at}/reroute", json={"to": "embed_items"}).json["field"] == "to"
    assert client.post(f"{at}/reroute", json={"to": destination["kind"]}).json["successor_job_id"]
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    replay = f"/api/dead-letters/{second}/replay"
    assert client.post(replay, json={"at": "2030-01-01T00:00:00"}).json["field"] == "at"
    assert client.post(replay, json={"at": soon}).json["state"] == "replayed"
    assert client.get(f"/api/dead-letters/{second}").json["job_not_before"][:16] == soon[:16]
    order = {"act": "discard", "why": "w", "filter": {}}
    bulks = "/api/dead-letters/bulks"
    bulk = f"{bulks}/{client.post(bulks, json=order).json['bulk']['bulk_id']}"
    client.post(f"{bulk}/start")
    container.bulk_runs.run_next()
    assert client.post(f"{bulk}/undo").json["restored"] == 2
    assert {each.dead_letter_id for each in graves.indexed()} == {third, fourth}


def test_an_export_goes_in_again_by_every_way(
    client: Any, dlq: Callable[..., Result], graves: Graveyard, container: Container, tmp_path: Path
):
    graves.some(2)
    whole = client.get("/api/dead-letters/export?payloads=true").data
    form = {"file": (io.BytesIO(whole), "dead-letters.ndjson")}
    assert client.post("/api/dead-letters/import", data=form).json["passed_over"] == 2
    file = tmp_path / "letters"
    file.write_bytes(whole)
    assert "0 letters came back, 2 did not\nline 1: it is here, and open" in dlq("import", file).output
    with container.database.transaction() as session:
        session.execute(delete(DeadLetterRow))
    assert lines(dlq("import", file, "--dry-run", "--json"))[0]["imported"] == 2
    assert lines(dlq("import", file, "--json"))[0]["imported"] == 2
    file.write_text("{}")
    refused = dlq("import", file)
    assert (refused.exit_code, "line 1: origin: Field required" in refused.output) == (2, True)


def test_commands_move_delay_and_take_back(
    dlq: Callable[..., Result], graves: Graveyard, container: Container
):
    first, second, third, fourth = (each.dead_letter_id for each in graves.some(4))
    assert dlq("reroute", first).output == "plan_collection_transform of collection-transforms\n"
    assert "does the work" in dlq("reroute", first, "--to", "plan_collection_transform").output
    assert "replayed as" in dlq("replay", second, "--in", "15m").output
    assert "replayed as" in dlq("replay", third, "--at", datetime.now(UTC) + timedelta(hours=1)).output
    assert "give one of --at and --in" in dlq("replay", fourth, "--in", "1h", "--at", "2030-01-01").output
    assert "must be a number with s, m, h or d" in dlq("replay", fourth, "--in", "soon").output
    assert "must read like" in dlq("replay", fourth, "--at", "soon").output
    bulk = lines(dlq("bulk", "discard", "--why", "x", "--start", "--json"))[0]["bulk"]["bulk_id"]
    container.bulk_runs.run_next()
    assert dlq("bulk", "undo", bulk).output == f"bulk {bulk}: 1 letters are open again\n"
    dlq("show", fourth)
    assert graves.indexed()[0].read_at is not None


def test_queues_are_listed_paused_and_compared_from_a_shell(app: Flask, graves: Graveyard):
    def queues(*words: str) -> Result:
        return app.test_cli_runner().invoke(args=["queues", *words])

    graves.some(1)
    name = "collection-transforms"
    found = {one["queue"]: one for one in lines(queues("list", "--json"))}
    assert (len(found), found[name]["dead_letters"]) == (3, 1)
    assert "say how long" in queues("pause", name, "--reason", "r").output
    assert queues("pause", name, "--for", "4d", "--reason", "r").exit_code == 2
    assert f"{name} is paused until" in queues("pause", name, "--for", "15m", "--reason", "a move").output
    assert "PAUSED until" in queues("show", name).output
    assert lines(queues("show", name, "--json"))[0]["queues"][0]["pause_reason"] == "a move"
    assert queues("resume", name).output == f"{name} goes on\n"
    assert "PAUSED" not in queues("list").output
    assert "there are collection-transforms" in queues("show", "none").output
    assert queues("schedules").output == "nothing is sent by the clock\n"
    assert queues("drift").output == "the server has what it is meant to have\n"
    assert len(lines(queues("drift", "--all", "--json"))) > 5
