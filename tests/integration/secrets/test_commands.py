"""What an operator sees of the secrets: where something is wrong, and never a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from click.testing import Result
from sqlalchemy import Table, select, text, update

from app import cli
from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.security.crypto import SecretBox, key_id_of
from app.storage.postgres.tables import AuditEvent, EmbedderRow
from tests.support.secrets import NEW, OLD, fill, left

Invoke = Callable[..., Result]


@pytest.fixture
def make(migrated_url: str, stack_env: dict[str, str]) -> Iterator[Callable[..., Container]]:
    made: list[Container] = []

    def of(**settings: str) -> Container:
        container = build(Settings.from_env(stack_env | {"DATABASE_URL": migrated_url} | settings))
        made.append(container)
        return container

    yield of
    for container in made:
        container.close()


@pytest.fixture
def container(make: Callable[..., Container]) -> Container:
    return make(ENCRYPTION_MASTER_KEY=NEW, ENCRYPTION_RETIRED_KEYS=OLD)


def invoke(container: Container, *words: str) -> Result:
    app = create_app(container)
    cli.register(app, container)
    return app.test_cli_runner().invoke(args=words)


def spoil(container: Container) -> None:
    """Seven rows: 1 and 2 swapped, 3 altered, 4 of a lost key, 5 in the clear, 6 of a wrong key, 7 is old."""
    fill(container.database, 7)
    sealed = EmbedderRow.api_key_sealed
    with container.database.transaction() as session:
        tokens = {key: token or "" for key, token in session.execute(select(EmbedderRow.embedder_id, sealed))}
        lost = SecretBox("77" * 32).encrypt("sk-4", table="embedders", column="api_key", row=4, owner="ada")
        old, new = SecretBox(OLD).key_id, container.secrets.key_id
        changed = {
            1: tokens[2],
            2: tokens[1],
            3: tokens[3][:-1] + ("A" if tokens[3][-1] != "A" else "E"),
            4: lost,
            5: "sk-5-in-the-clear",
            6: tokens[6].replace(f".{old}.", f".{new}."),
        }
        for key, token in changed.items():
            statement = update(cast("Table", EmbedderRow.__table__)).where(EmbedderRow.embedder_id == key)
            session.execute(statement.values(api_key_sealed=token))


def test_verify_names_the_row_of_every_secret_that_is_not_as_it_should_be(container: Container):
    spoil(container)
    shown = invoke(container, "secrets", "verify")
    assert shown.exit_code == 1
    lines = shown.output.splitlines()
    lost = f"key {SecretBox('77' * 32).key_id}, which is not configured"
    # The last character of row 3 may be one that base64 does not allow there.
    reasons = ["another row", "another row", "", lost, "format", "altered", "retired key"]
    for row, reason in enumerate(reasons, start=1):
        (line,) = (each for each in lines if each.startswith(f"embedders.api_key row {row}: "))
        assert reason in line
    assert "sk-" not in shown.output
    assert "7 are not as they should be" in shown.output


def test_rotate_passes_over_what_does_not_open_and_says_so(container: Container):
    spoil(container)
    shown = invoke(container, "secrets", "rotate")
    assert shown.exit_code == 1
    assert "5 secrets do not open and were left as they are" in shown.output
    assert "sk-" not in shown.output
    with container.database.transaction() as session:
        seventh = session.get_one(EmbedderRow, 7).api_key_sealed
        finish = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert seventh
    assert key_id_of(seventh) == container.secrets.key_id
    assert finish
    assert (finish.outcome, finish.details["rotated"], finish.details["left"]) == ("failure", 1, 5)


def test_a_rotation_is_in_the_audit_log_with_its_numbers(container: Container):
    fill(container.database, 120)
    assert invoke(container, "secrets", "rotate", "--batch-size", "50").exit_code == 0
    with container.database.transaction() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.action for event in events] == [
        "secrets.rotation_started",
        *["secrets.rotated"] * 3,
        "secrets.rotation_finished",
    ]
    assert [event.details["count"] for event in events[1:4]] == [50, 50, 20]
    assert events[1].details["from_keys"] == [SecretBox(OLD).key_id]
    assert events[4].details == {"to_key": container.secrets.key_id, "rotated": 120, "left": 0}
    assert {event.actor.partition(":")[0] for event in events} == {"operator"}
    assert invoke(container, "audit", "verify").exit_code == 0


def test_a_dry_run_changes_nothing(container: Container):
    fill(container.database, 5)
    shown = invoke(container, "secrets", "rotate", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "would rotate 5" in shown.output
    assert left(container.database, container.secrets.key_id) == 5
    assert invoke(container, "audit", "verify").output.startswith("0 events")


def test_after_a_rotation_the_new_key_is_enough(container: Container, make: Callable[..., Container]):
    fill(container.database, 5)
    assert invoke(container, "secrets", "rotate").exit_code == 0
    alone = make(ENCRYPTION_MASTER_KEY=NEW)
    shown = invoke(alone, "secrets", "verify")
    assert shown.exit_code == 0, shown.output
    assert f"5 secrets; by key: {alone.secrets.key_id} 5" in shown.output


def test_without_a_key_nothing_is_stored_and_the_answer_says_why(make: Callable[..., Container]):
    container = make(OUTBOUND_ALLOWED_HOSTS="127.0.0.1")
    client = create_app(container).test_client()
    body = {"name": "e", "provider": "openai", "model": "m", "api_key": "sk-unsealed"}
    for noun in ("embedders", "llms"):
        answer = client.post(f"/api/{noun}", json=body)
        assert answer.status_code == 503
        assert "ENCRYPTION_MASTER_KEY is not set" in answer.text
        assert client.get(f"/api/{noun}").json["items"] == []  # type: ignore[index]
    assert client.post("/api/embedders", json={"name": "e", "provider": "local"}).status_code == 201


def test_without_a_key_the_commands_say_so(make: Callable[..., Container]):
    container = make()
    shown = invoke(container, "secrets", "rotate")
    assert (shown.exit_code, "ENCRYPTION_MASTER_KEY is not set" in shown.output) == (2, True)
    assert invoke(container, "audit", "verify").exit_code == 2


def test_the_audit_command_finds_what_was_changed_and_keeps_it_from_being_pruned(container: Container):
    fill(container.database, 1)
    assert invoke(container, "secrets", "rotate").exit_code == 0
    whole = invoke(container, "audit", "verify")
    assert whole.exit_code == 0, whole.output
    place = whole.output.split()[-1]
    assert invoke(container, "audit", "verify", "--contains", place).exit_code == 0
    with container.database.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("UPDATE audit_events SET actor = 'nobody' WHERE id = 2"))
    shown = invoke(container, "audit", "verify")
    assert shown.exit_code == 1
    assert "event 2: was changed or forged" in shown.output
    assert invoke(container, "audit", "prune", "--before", "2100-01-01").exit_code == 1
    with container.database.transaction() as session:
        assert len(session.scalars(select(AuditEvent)).all()) == 3


def test_applying_streams_is_recorded_when_it_changed_something(container: Container, nats_url: str):
    assert nats_url
    for _ in range(2):
        assert invoke(container, "streams", "apply").exit_code == 0
    with container.database.transaction() as session:
        (event,) = session.scalars(select(AuditEvent)).all()
    assert event.action == "streams.applied"
    assert event.details["changes"]
