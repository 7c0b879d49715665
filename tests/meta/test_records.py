"""What a new table must not forget: the audit log, and the rotation of its secrets."""

from __future__ import annotations

import ast
from pathlib import Path

from app.services.audit_trail import AUDITED
from app.services.secrets import secret_columns
from app.storage.postgres.tables import Base
from app.storage.postgres.tables.base import Owned

ROOT = Path(__file__).resolve().parents[2]

# Classes of tables of what somebody owns that the audit log leaves out, and why.
NOT_AUDITED: dict[str, str] = {}


def test_every_table_of_what_people_own_is_audited_or_says_why_not():
    owned = {one.class_ for one in Base.registry.mappers if issubclass(one.class_, Owned)}
    missing = {table.__name__ for table in owned - set(AUDITED)}
    assert missing == set(NOT_AUDITED)


def test_every_sealed_column_is_rotated_and_verified():
    named = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name.endswith(("_sealed", "_secret", "_encrypted", "_key_enc"))
    }
    assert named == {(one.table.name, one.column.name) for one in secret_columns()}
    assert named


def test_every_sealed_column_has_the_owner_and_the_one_key_that_its_values_are_bound_to():
    for one in secret_columns():
        assert "owner_id" in one.table.columns, one.table.name
        assert one.key.primary_key


def test_secrets_are_sealed_in_known_places_only():
    """Whoever seals elsewhere must be found by `flask secrets rotate`, too: then list it here."""
    sealing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "encrypt"
        and path.parent.name != "security"
    }
    assert sealing == {
        "app/services/adoption.py",  # what is sealed already, for its new owner
        "app/services/provider_rows.py",
        "app/services/secrets.py",
        "app/services/sessions.py",
    }
