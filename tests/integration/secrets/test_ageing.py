"""Gauges of what gets old: the files of the settings, and the active key from its first use on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, update

from app.observability import security_metrics
from app.security.keyring import Keyring
from app.services.ageing import Ageing
from app.storage.postgres.session import Database
from app.storage.postgres.tables import MasterKey
from tests.support.certificates import self_signed

OLD, NEW = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    yield
    security_metrics.forget_key_age()


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None
    return found


def test_a_key_ages_from_its_first_use_and_another_begins_anew(database: Database):
    Ageing(database, Keyring(OLD), {}).measure()
    assert 0 <= value("encryption_key_age_seconds") < 60
    with database.transaction() as session:
        session.execute(update(MasterKey).values(first_used_at=func.now() - timedelta(days=400)))
    Ageing(database, Keyring(OLD), {}).measure()
    assert value("encryption_key_age_seconds") >= 400 * 86_400
    Ageing(database, Keyring(NEW, [OLD]), {}).measure()
    assert value("encryption_key_age_seconds") < 60


def test_each_file_says_when_it_ends_and_one_that_is_gone_says_nothing(database: Database, tmp_path: Path):
    file = tmp_path / "ca.pem"
    file.write_bytes(self_signed(timedelta(days=10)))
    Ageing(database, Keyring(None), {"test_ca": file, "test_gone": tmp_path / "gone.pem"}).measure()
    ends = value("tls_certificate_expiry_timestamp_seconds", use="test_ca")
    assert ends == pytest.approx(file.stat().st_mtime + 10 * 86_400, abs=60)
    assert math.isnan(value("tls_certificate_expiry_timestamp_seconds", use="test_gone"))
