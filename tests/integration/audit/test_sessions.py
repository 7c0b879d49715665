"""Sessions record what they commit, and commit nothing that is not recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from app.observability.logging import bound
from app.services.audit import Audit
from app.storage.postgres.tables import ApiToken, AuditEvent, Collection, File, Owner, SessionRow, User
from tests.support.domain import World


def test_rows_changed_by_one_statement_are_counted(audit: Audit):
    world = World(audit.database())
    collection = world.collection()
    files = [world.file(collection, name) for name in "abc"]
    gone = delete(File).where(File.file_id.in_(files))
    with audit.database().transaction() as session:
        session.execute(insert(Collection), [{"owner_id": "ada", "title": "t", "tags": []}] * 2)
        session.execute(update(Collection).values(title="u"))
        session.execute(gone)
        session.execute(gone)
        assert session.scalars(delete(Collection).returning(Collection.title)).all() == ["u"] * 3
    with audit.database().transaction() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [(event.action, event.details.get("count")) for event in events[1:]] == [
        ("collection.created", 2),
        ("collection.changed", 3),
        ("file.deleted", 3),
        ("collection.deleted", None),
    ]


def test_users_sessions_and_tokens_are_recorded_as_they_come_and_go(audit: Audit):
    end = datetime.now(UTC) + timedelta(hours=1)
    rows = (
        User(owner_id="ada", issuer="https://id.example", subject="1", role="viewer"),
        SessionRow(owner_id="ada", token_hash="a" * 64, expires_at=end, id_token_sealed="v1.x.y.z"),
        ApiToken(owner_id="ada", name="ci", scope="read", token_hash="b" * 64, ending="wxyz", expires_at=end),
    )
    with audit.database().transaction() as session:
        session.add(Owner(owner_id="ada", display_name="Ada"))
        session.flush()
        session.add_all(rows)
    with audit.database().transaction() as session:
        session.get_one(User, "ada").role = "admin"
        session.get_one(ApiToken, rows[2].api_token_id).last_used_at = end
        session.get_one(SessionRow, rows[1].session_id).last_seen_at = end
    with audit.database().transaction() as session:
        for row in rows:
            session.delete(session.merge(row))
    with audit.database().transaction() as session:
        events = session.scalars(select(AuditEvent)).all()
    nouns = ("user", "session", "api_token")
    assert {event.action for event in events} == {
        "user.changed",
        *(f"{noun}.{verb}" for noun in nouns for verb in ("created", "deleted")),
    }
    assert len(events) == 7
    assert {event.owner_id for event in events} == {"ada"}


def test_a_change_that_cannot_be_recorded_does_not_happen(audit: Audit):
    with audit.database().transaction() as session:
        session.add(Owner(owner_id="ada", display_name="Ada"))
        session.execute(text("ALTER TABLE audit_events ADD CONSTRAINT full_disk CHECK (false) NOT VALID"))
    with pytest.raises(DatabaseError, match="full_disk"), audit.database().transaction() as session:
        session.add(Collection(owner_id="ada", title="Papers", tags=[]))
    with audit.database().transaction() as session:
        assert session.scalars(select(Collection)).all() == []


def test_a_worker_is_recorded_as_the_system_with_its_job(audit: Audit):
    world = World(audit.database())
    job_id = UUID(int=7)
    with bound(job_id=job_id):
        world.dataset()
    with audit.database().transaction() as session:
        event = session.scalars(select(AuditEvent)).one()
    assert (event.actor, event.request_id, event.address) == ("system", str(job_id), None)
