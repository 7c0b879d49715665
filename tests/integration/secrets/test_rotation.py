"""A rotation goes on beside readers and writers, may be killed, and leaves nothing on the old key."""

from __future__ import annotations

import signal
import time

from sqlalchemy import func, select

from app.security.crypto import SecretBox
from app.services import provider_rows
from app.services.audit_trail import AuditTrail
from app.services.secrets import Checked, Secrets
from app.storage.postgres.session import Database
from app.storage.postgres.tables import AuditEvent, EmbedderRow
from tests.support.secrets import NEW, OLD, Traffic, fill, left, rotating, traffic

NUMBER = 2000
STALE, FRESH = SecretBox(OLD, (NEW,)), SecretBox(NEW, (OLD,))


def batches(database: Database) -> int:
    """How many a rotation has committed."""
    with database.transaction() as session:
        return len(session.scalars(select(AuditEvent).where(AuditEvent.action == "secrets.rotated")).all())


def test_a_rotation_that_is_killed_beside_readers_and_writers_is_taken_up_and_loses_nothing(
    database: Database, migrated_url: str
):
    fill(database, NUMBER)
    seen = Traffic()
    with database.transaction() as session:
        first_change = session.scalar(select(func.max(EmbedderRow.updated_at)))
    # A process that was not started anew yet seals with the old key; it can read what the new one seals.
    with traffic(database, STALE, NUMBER, share=(0, 3), into=seen):
        with database.transaction() as session:  # the rotation cannot pass this row
            session.get_one(EmbedderRow, NUMBER // 2, with_for_update=True)
            process = rotating(migrated_url, "--batch-size", "50")
            while batches(database) < NUMBER // 2 // 50 - 1:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert NUMBER // 2 < left(database, FRESH.key_id) < NUMBER
    with traffic(database, FRESH, NUMBER, share=(1, 3), into=seen):
        process = rotating(migrated_url)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert f"done: every secret has key {FRESH.key_id}" in out
    assert seen.failures == []
    assert seen.reads > 0
    assert left(database, FRESH.key_id) == 0
    alone = SecretBox(NEW)
    checked = Checked()
    assert list(Secrets(database, alone, AuditTrail(alone.keyring)).verify(checked)) == []
    assert checked.total == NUMBER
    with database.transaction() as session:
        rows = session.scalars(select(EmbedderRow)).all()
    for row in rows:
        expected = seen.written.get(row.embedder_id, f"sk-{row.embedder_id}")
        assert provider_rows.unseal(row, alone) == expected
        if row.embedder_id not in seen.written:
            assert row.updated_at == first_change  # open clients need not be opened again


def test_a_value_that_is_written_meanwhile_wins(database: Database):
    """As if the row had not been locked: what is replaced is the value that was read, or nothing."""
    fill(database, 3)
    secrets = Secrets(database, FRESH, AuditTrail(FRESH.keyring))
    encrypt = FRESH.encrypt

    class Meddling(SecretBox):
        def encrypt(self, plaintext: str, **place: object) -> str:
            if place["row"] == 2 and not meddled:
                meddled.append(True)
                other = Database(database._options)
                with other.transaction() as session:
                    session.connection().exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                    row = session.get_one(EmbedderRow, 2)
                    provider_rows.seal(row, "sk-2-newer", FRESH)
                other.close()
            return encrypt(plaintext, **place)  # type: ignore[arg-type]

    meddled: list[bool] = []
    box = Meddling(NEW, (OLD,))
    unlocked = Secrets(database, box, secrets.trail)
    stale = type(unlocked)._stale

    def without_lock(self, session, column, last, limit, *, lock):
        return stale(self, session, column, last, limit, lock=False)

    try:
        type(unlocked)._stale = without_lock  # type: ignore[method-assign]
        assert sum(batch.rotated for batch in unlocked.rotate()) == 3
    finally:
        type(unlocked)._stale = stale  # type: ignore[method-assign]
    with database.transaction() as session:
        assert provider_rows.unseal(session.get_one(EmbedderRow, 2), FRESH) == "sk-2-newer"
