"""Sessions record what they commit, and commit nothing that is not recorded."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.exc import DatabaseError

from app.observability.logging import bound
from app.security.principal import Principal
from app.services.audit import Audit
from app.storage.postgres.tables import AuditEvent, Collection, File, Owner
from tests.support.domain import World


def test_rows_deleted_by_one_statement_are_counted(audit: Audit):
    world = World(audit.database())
    collection = world.collection()
    files = [world.file(collection, name) for name in "abc"]
    with audit.database().transaction() as session:
        session.execute(delete(File).where(File.file_id.in_(files)))
        session.execute(delete(File).where(File.file_id.in_(files)))
    (page,) = [audit.list(Principal("ada", "Ada")).items]
    assert [one.action for one in page] == ["collection.created"]  # whose they were is not known here
    with audit.database().transaction() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
        assert event
        assert (event.action, event.details) == ("file.deleted", {"count": 3})


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
