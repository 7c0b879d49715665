"""The numbers of secrets and of the audit log that a scrape shows."""

from __future__ import annotations

import time

from prometheus_client import REGISTRY
from sqlalchemy import text

from app.security.crypto import SecretBox
from app.services import security_numbers
from app.services.audit import Audit
from app.services.audit_trail import AuditTrail
from app.services.secrets import Secrets
from app.storage.postgres.session import Database
from tests.support.secrets import NEW, OLD, fill


def stored(key_id: str | None) -> float | None:
    return REGISTRY.get_sample_value("secrets_stored", {"key_id": key_id or ""})


def test_secrets_are_counted_by_key_and_what_no_key_of_ours_sealed_by_one_name(database: Database):
    box, old = SecretBox(NEW, (OLD,)), SecretBox(OLD)
    secrets = Secrets(database, box, AuditTrail(box.keyring))
    fill(database, 5)
    with database.transaction() as session:
        session.execute(text("UPDATE embedders SET api_key_sealed = 'v1.made.up' WHERE embedder_id = 1"))
        session.execute(text("UPDATE embedders SET api_key_sealed = 'x' WHERE embedder_id = 2"))
    security_numbers.measure(secrets)
    assert (stored(old.key_id), stored(box.key_id), stored("unknown")) == (3, 0, 2)
    list(secrets.rotate())
    security_numbers.measure(secrets)
    assert (stored(old.key_id), stored(box.key_id), stored("unknown")) == (0, 3, 2)


def test_the_age_of_the_newest_event_is_told(database: Database):
    box = SecretBox(NEW)
    trail = AuditTrail(box.keyring)
    with database.transaction() as session:
        trail.listen(database._opened())
        session.execute(text("SELECT 1"))
    before = time.time()
    Audit(lambda: database, trail).note("test.done")
    security_numbers.measure(Secrets(database, box, trail))
    at = REGISTRY.get_sample_value("audit_head_timestamp_seconds") or 0
    assert abs(at - before) < 60
