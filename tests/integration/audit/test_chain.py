"""Whoever owns the database can change the audit log, and cannot hide it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError

from app.services.audit import Audit
from app.services.audit_check import Place
from app.storage.postgres.tables import AuditEvent
from tests.integration.audit.conftest import KEY, OTHER, Open, findings, tamper


@pytest.fixture
def written(audit: Audit) -> Audit:
    """Nine events."""
    for number in range(9):
        details = {"n": number, "ü": [True, None]}
        audit.note("test.done", owner_id="ada", object_id=str(number), details=details)
    return audit


def test_a_log_that_nobody_touched_is_whole(written: Audit):
    assert findings(written) == []


def test_events_of_many_threads_form_one_chain(audit: Audit):
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda number: audit.note("test.done", object_id=str(number)), range(200)))
    assert findings(audit) == []
    with audit.database().transaction() as session:
        assert session.execute(select(func.count(), func.max(AuditEvent.id))).one() == (200, 200)


def test_an_event_of_a_transaction_that_fails_was_never_there(audit: Audit):
    audit.note("test.first")
    with pytest.raises(ZeroDivisionError), audit.database().transaction() as session:
        audit.trail.record(session, "test.never")
        raise ZeroDivisionError
    audit.note("test.second")
    assert findings(audit) == []


FORGERIES = {
    "an actor": "UPDATE audit_events SET actor = 'eve' WHERE id = 4",
    "a moment": "UPDATE audit_events SET at = at - interval '1 microsecond' WHERE id = 4",
    "an era": "UPDATE audit_events SET at = (at::text || ' BC')::timestamptz WHERE id = 4",
    "a detail": """UPDATE audit_events SET details = '{"n": 4, "ü": [true, null]}' WHERE id = 4""",
    "a missing detail": "UPDATE audit_events SET details = details - 'n' WHERE id = 4",
    "an outcome": "UPDATE audit_events SET outcome = 'failure' WHERE id = 4",
    "an address": "UPDATE audit_events SET address = '::1' WHERE id = 4",
    "a code": "UPDATE audit_events SET mac = decode(repeat('ab', 32), 'hex') WHERE id = 4",
    "the key's name": "UPDATE audit_events SET key_id = NULL, mac = sha256(mac) WHERE id = 4",
}


def test_a_changed_event_is_named(written: Audit):
    tamper(written, "CREATE TABLE kept AS SELECT * FROM audit_events")
    for what, forgery in FORGERIES.items():
        tamper(written, forgery)
        assert any(found.startswith("event 4: was changed or forged") for found in findings(written)), what
        tamper(written, "DELETE FROM audit_events")
        tamper(written, "INSERT INTO audit_events SELECT * FROM kept")
        assert findings(written) == [], what


def test_a_removed_event_is_named(written: Audit):
    tamper(written, "DELETE FROM audit_events WHERE id IN (4, 5)")
    assert findings(written) == ["event 6: events 4 to 5 before it are missing"]


def test_a_removed_beginning_is_found(written: Audit):
    tamper(written, "DELETE FROM audit_events WHERE id < 3")
    assert findings(written) == ["event 3: events 1 to 2 before it are missing"]


def test_removed_newest_events_are_found(written: Audit):
    tamper(written, "DELETE FROM audit_events WHERE id > 7")
    (found,) = findings(written)
    assert found.startswith("the log ends with event 7, but its head stands at event 9")


def test_a_head_set_back_with_the_newest_events_is_found_at_once_and_after_more_events(written: Audit):
    tamper(written, "DELETE FROM audit_events WHERE id > 7")
    tamper(written, "UPDATE audit_head SET last_id = 7, mac = (SELECT mac FROM audit_events WHERE id = 7)")
    assert [found for found in findings(written) if "the head was altered" in found]
    written.note("test.later")
    (found,) = findings(written)
    assert found == "event 8: the head had been altered when it was written: events before it may be missing"


def test_a_head_set_back_without_a_key_is_found_after_more_events(written: Audit):
    tamper(written, "DELETE FROM audit_events WHERE id > 7")
    tamper(
        written,
        "UPDATE audit_head SET last_id = 7, key_id = NULL, mac = (SELECT mac FROM audit_events WHERE id = 7)",
    )
    tamper(written, """UPDATE audit_head SET seal = sha256(mac || '["head",7]'::bytea)""")
    assert findings(written) == ["the head was written without a key although one is configured"]
    written.note("test.later")
    (found,) = findings(written)
    assert "the head had been altered" in found


def test_an_inserted_event_is_found(written: Audit):
    # The rows above make room by one, and a copy of the fourth fills it.
    for number in range(9, 3, -1):
        tamper(written, f"UPDATE audit_events SET id = {number + 1} WHERE id = {number}")
    columns = ", ".join(column.name for column in AuditEvent.__table__.columns if column.name != "id")
    tamper(written, f"INSERT INTO audit_events SELECT 4, {columns} FROM audit_events WHERE id = 5")
    found = "\n".join(findings(written))
    assert "event 5: does not follow event 4" in found
    assert "its head stands at event 9" in found


def test_events_in_another_order_are_found(written: Audit):
    for first, second in ((4, 100), (5, 4), (100, 5)):
        tamper(written, f"UPDATE audit_events SET id = {second} WHERE id = {first}")
    found = "\n".join(findings(written))
    assert "event 4: was changed or forged" in found
    assert "event 5: was changed or forged" in found


def test_an_event_appended_without_the_key_is_found_though_others_follow(written: Audit, open_audit: Open):
    open_audit(None).note("test.forged")
    written.note("test.later")
    found = "\n".join(findings(written))
    assert "event 11: was written without a key, after others that were sealed with one" in found


def test_a_log_cut_back_to_nothing_is_found_by_what_was_noted_elsewhere(written: Audit):
    check = written.check()
    assert list(written.verify(check)) == []
    noted = f"{check.last_id}:{check.mac.hex()[:16]}"
    assert findings(written, noted) == []
    tamper(written, "TRUNCATE audit_events")
    tamper(
        written,
        "UPDATE audit_head SET last_id = 0, key_id = NULL, mac = decode(repeat('00', 32), 'hex')",
    )
    tamper(written, """UPDATE audit_head SET seal = sha256(mac || '["head",0]'::bytea)""")
    written.note("test.afresh")
    assert findings(written) == []  # a log can be cut back to any state that it was in; so the place is noted
    assert findings(written, noted) == ["event 9: is not in the log with the code that was given"]


def test_a_key_that_is_missing_is_named_and_a_retired_one_still_checks(written: Audit, open_audit: Open):
    rotated = open_audit(OTHER, (KEY,))
    rotated.note("test.after")
    assert findings(rotated) == []
    alone = findings(open_audit(OTHER))
    assert len(alone) == 9
    assert "name the key in ENCRYPTION_RETIRED_KEYS" in alone[0]


def test_a_log_begun_without_a_key_is_sealed_from_the_moment_there_is_one(open_audit: Open):
    open_audit(None).note("test.before")
    audit = open_audit()
    audit.note("test.after")
    check = audit.check()
    assert list(audit.verify(check)) == []
    assert (check.unsealed, check.events) == (1, 3)  # one more says that the head had no seal


def test_the_table_itself_refuses_what_is_no_insert(written: Audit):
    for statement in (
        "UPDATE audit_events SET actor = 'x'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "DELETE FROM audit_head",
    ):
        with pytest.raises(DatabaseError, match="append-only"), written.database().transaction() as session:
            session.execute(text(statement))
    assert findings(written) == []


def test_pruning_leaves_a_chain_that_begins_later(written: Audit):
    assert written.prune(datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert written.prune(datetime.now(UTC) + timedelta(days=1)) == 8
    written.note("test.later")
    check = written.check()
    assert list(written.verify(check)) == []
    assert check.events == 3
    tamper(written, "DELETE FROM audit_events WHERE id = 9")
    assert findings(written) == ["event 10: events 9 to 9 before it are missing"]


def test_a_place_is_a_number_and_a_code():
    for wrong in ("", "12", "12:", "12:abc", "x:0123456789"):
        with pytest.raises(ValueError, match="number:code"):
            Place.parse(wrong)
