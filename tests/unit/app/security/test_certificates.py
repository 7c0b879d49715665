"""Which certificate files the settings name, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.security.certificates import expires_at, of_postgres
from tests.support.certificates import self_signed


def test_of_several_certificates_the_first_to_end_counts(tmp_path: Path):
    file = tmp_path / "ca.pem"
    file.write_bytes(self_signed(timedelta(days=90)) + self_signed(timedelta(days=3)))
    left = expires_at(file) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)


def test_a_file_without_a_certificate_is_refused(tmp_path: Path):
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ValueError, match="PEM"):
        expires_at(file)


def test_files_in_the_url_of_postgres_are_found_by_use():
    url = "postgresql://a:b@db/x?sslmode=verify-full&sslrootcert=/tls/ca%20new.crt&sslcert=/tls/tls.crt"
    assert of_postgres(url) == {
        "postgres_ca": Path("/tls/ca new.crt"),
        "postgres_client": Path("/tls/tls.crt"),
    }
    assert of_postgres("postgresql://a:b@db/x?sslrootcert=system") == {}
