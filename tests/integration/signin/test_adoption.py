"""What a single user made goes to the person who signs in now, whole: rows, secrets and vectors."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select, update

from app import cli
from app.container import Container
from app.security.principal import SINGLE_USER, Principal
from app.storage.postgres.tables import AuditEvent, EmbeddedDataset, EmbedderRow, Job, Owner
from tests.support.domain import World
from tests.support.identity import Person

KEY = "sk-of-the-single-user"


@pytest.fixture
def flask(app: Flask, container: Container) -> Callable[..., Result]:
    cli.register(app, container)
    return lambda *words: app.test_cli_runner().invoke(args=words)


@pytest.fixture
def index(container: Container) -> str:
    """A dataset of the single user's with an embedder, its key, and an index of 2,500 vectors."""
    container.services.owners.ensure(SINGLE_USER)
    world = World(container.database, SINGLE_USER.owner_id)
    dataset = world.dataset()
    embedder = container.services.embedders.create(
        SINGLE_USER, {"name": "e", "provider": "openai", "model": "m", "dimensions": 3, "api_key": KEY}
    )
    embedded = world.embedded_dataset(world.dataset_transform(dataset), dataset, embedder.embedder_id)
    with container.database.transaction() as session:
        name = session.get_one(EmbeddedDataset, embedded).collection_name
    container.vectors.ensure_index(name, 3)
    ids = [uuid4() for _ in range(2500)]
    payloads = [{"item_id": 1, "owner_id": SINGLE_USER.owner_id} for _ in ids]
    container.vectors.upsert(name, ids, np.ones((len(ids), 3), np.float32), payloads)
    return name


def owners_in(container: Container, name: str) -> set[str]:
    found, cursor = set(), None
    while True:
        page = container.vectors.scroll(name, limit=1000, cursor=cursor)
        found |= {point.payload["owner_id"] for point in page.points}
        cursor = page.cursor
        if cursor is None:
            return found


def test_everything_follows_to_the_person_and_opens_for_them(
    ada: Person, container: Container, flask: Callable[..., Result], index: str
):
    me = (ada.get("/api/users/@me").json or {})["owner_id"]
    dry = flask("users", "adopt", "ada", "--dry-run")
    assert (dry.exit_code, "2500 vectors" in dry.output, "would be given" in dry.output) == (0, True, True)
    assert owners_in(container, index) == {SINGLE_USER.owner_id}
    given = flask("users", "adopt", "ada")
    assert (given.exit_code, f"were given to {me}" in given.output) == (0, True), given.output
    assert owners_in(container, index) == {me}
    listed = ada.get("/api/datasets").json
    assert listed
    assert listed["total_count"] == 1
    with container.database.transaction() as session:
        row = session.scalars(select(EmbedderRow)).one()
        place = {"table": "embedders", "column": "api_key", "row": row.embedder_id, "owner": me}
        assert container.secrets.decrypt(row.api_key_sealed or "", **place) == KEY
        noted = session.scalars(select(AuditEvent).where(AuditEvent.action == "owner.adopted")).one()
        assert (noted.owner_id, noted.details["from"]) == (me, SINGLE_USER.owner_id)
    again = flask("users", "adopt", "ada")
    assert (again.exit_code, "0 vectors" in again.output) == (0, True)


def test_cut_short_after_the_rows_it_is_finished_by_the_next_call(
    ada: Person,
    container: Container,
    flask: Callable[..., Result],
    index: str,
    monkeypatch: pytest.MonkeyPatch,
):
    me = (ada.get("/api/users/@me").json or {})["owner_id"]
    with monkeypatch.context() as patch:
        patch.setattr(type(container.vectors), "scroll", lambda *_, **__: 1 / 0)
        assert flask("users", "adopt", me).exit_code != 0
    assert owners_in(container, index) == {SINGLE_USER.owner_id}
    assert flask("users", "adopt", me).exit_code == 0
    assert owners_in(container, index) == {me}


def test_what_cannot_be_given_is_refused_in_words(
    ada: Person, container: Container, flask: Callable[..., Result], index: str
):
    stranger = flask("users", "adopt", "eve")
    assert (stranger.exit_code, "nobody called 'eve' has signed in yet" in stranger.output) == (2, True)
    with container.database.transaction() as session:
        session.add(
            Job(job_id=uuid4(), kind="embed_items", queue="q", unique_key="k", arguments={}, owner_id="local")
        )
    busy = flask("users", "adopt", "ada")
    assert (busy.exit_code, "1 jobs of local are under way" in busy.output) == (2, True)
    assert owners_in(container, index) == {SINGLE_USER.owner_id}
    with container.database.transaction() as session:
        session.execute(update(Job).values(state="cancelled"))
        assert session.get(Owner, "local")
    assert container.services.datasets.list(Principal("local", "Local")).total_count == 1


def test_a_sign_in_that_is_refused_is_in_the_audit_log(browser: Callable[[], Person], container: Container):
    person = browser()
    person.leave()
    person.get("/auth_callback?state=forged&code=x", headers={"User-Agent": "t"})
    with container.database.transaction() as session:
        noted = session.scalars(select(AuditEvent).where(AuditEvent.action == "sign_in.refused")).one()
    assert (noted.actor, noted.outcome, noted.address) == ("anonymous", "failure", "127.0.0.1")
    assert noted.details == {"code": "sign_in_refused"}
    assert list(container.audit.verify(container.audit.check())) == []
