"""When the certificates of a PEM file end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

# What libpq takes from the query of a URL, and what we call it.
_OF_POSTGRES = {"sslrootcert": "postgres_ca", "sslcert": "postgres_client"}


def expires_at(file: Path) -> datetime:
    """The first end among the file's certificates, UTC. Raises OSError, ValueError for a file without any."""
    return min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(file.read_bytes()))


def of_postgres(database_url: str) -> dict[str, Path]:
    """The certificate files that a URL of Postgres names, by use; `system` stands for no file."""
    query = parse_qs(urlsplit(database_url).query)
    given = {use: query[name][-1] for name, use in _OF_POSTGRES.items() if name in query}
    return {use: Path(file) for use, file in given.items() if file != "system"}
