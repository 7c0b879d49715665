"""A person lets a dead job run again: by its letter, or without one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import ConflictError, NotFoundError
from app.jobs.outbox import Envelope
from app.storage.postgres.tables import AuditEvent
from tests.integration.dead_letters.conftest import ADA, ADMIN, BOB, Graveyard


def test_the_open_letter_of_a_dead_job_is_replayed(container: Container, graves: Graveyard) -> None:
    letter = graves.one()
    assert letter.job_id is not None
    with pytest.raises(NotFoundError):
        container.services.job_desk.run_again(BOB, letter.job_id)
    container.services.job_desk.run_again(ADA, letter.job_id)
    (after,) = graves.indexed(state=None)
    assert (after.state, after.ended_by) == ("replayed", "eve")
    with container.database.transaction() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.run_again")).one()
    assert (told.actor, told.owner_id, told.object_id) == ("eve", "ada", str(letter.job_id))


def test_a_dead_job_without_a_letter_gets_a_new_message_once(
    container: Container, graves: Graveyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    graves.die()  # the index has not taken the letter yet
    sent: list[Envelope] = []

    def remember(_: Any, envelopes: list[Envelope]) -> None:
        sent.extend(envelopes)

    monkeypatch.setattr("app.jobs.dispatch.Dispatcher.send", remember)
    (job_id,) = {job.job_id for job in container.services.jobs.list(ADA).items}
    container.services.job_desk.run_again(ADMIN, job_id)
    row = graves.job_row(job_id)
    assert (row.state, row.publication, row.attempt, row.error_code) == ("pending", 1, 0, None)
    assert [(one.job_id, one.publication) for one in sent] == [(job_id, 1)]
    with pytest.raises(ConflictError, match="the job is pending"):
        container.services.job_desk.run_again(ADMIN, job_id)


def test_a_job_asked_for_twice_is_started_by_one_of_the_two_messages(
    container: Container, graves: Graveyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = graves.one().job_id
    assert job_id is not None
    sent: list[Envelope] = []
    monkeypatch.setattr("app.jobs.dispatch.Dispatcher.send", lambda _, envelopes: sent.extend(envelopes))
    for _ in range(2):  # the first replays the letter, whose message nobody takes here
        container.services.job_desk.run_again(ADMIN, job_id)
    assert container.services.jobs.begin(job_id, "w1", publication=1) is None
    (only,) = sent
    assert container.services.jobs.begin(job_id, "w2", publication=only.publication) is not None
