"""A migrated database whose sessions write the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from app.security.keyring import Keyring
from app.services.audit import Audit
from app.services.audit_check import Place
from app.services.audit_trail import AuditTrail
from app.storage.postgres.session import Database, DatabaseOptions

KEY, OTHER = "5e" * 32, "c4" * 32

Open = Callable[..., Audit]


@pytest.fixture
def open_audit(migrated_url: str) -> Iterator[Open]:
    """Makes what a process with these keys would have."""
    opened: list[Database] = []

    def make(key: str | None = KEY, retired: tuple[str, ...] = ()) -> Audit:
        trail = AuditTrail(Keyring(key, retired))
        url = migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        database = Database(DatabaseOptions(url=url), trail.listen)
        opened.append(database)
        return Audit(lambda: database, trail)

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def audit(open_audit: Open) -> Audit:
    return open_audit()


def findings(audit: Audit, contains: str | None = None) -> list[str]:
    check = audit.check(Place.parse(contains) if contains else None)
    return [str(found) for found in audit.verify(check)]


def tamper(audit: Audit, statement: str) -> None:
    """What somebody can do who owns the database: triggers are no obstacle."""
    with audit.database().transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text(statement))
