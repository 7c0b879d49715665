"""What gets old unnoticed: certificates of the connections, and the key that seals secrets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from app.observability import security_metrics
from app.security.certificates import expires_at
from app.security.keyring import Keyring
from app.storage.postgres.session import Database
from app.storage.postgres.tables import MasterKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ageing:
    """Sets the gauges. `certificates` are PEM files by what they are used for."""

    database: Database
    keyring: Keyring
    certificates: Mapping[str, Path]

    def measure(self) -> None:
        """Look at every file and at the active key. Raises UnavailableError; files are looked at before."""
        for use, file in self.certificates.items():
            security_metrics.set_certificate(use, _expiry(file))
        if self.keyring.active is not None:
            security_metrics.set_key_age(self._age_seconds(self.keyring.active.id))

    def _age_seconds(self, key_id: str) -> float:
        """How long ago a process first had this key as its active one; now, for a new key."""
        with self.database.transaction() as session:
            session.execute(insert(MasterKey).values(key_id=key_id).on_conflict_do_nothing())
            age = func.extract("epoch", func.clock_timestamp() - MasterKey.first_used_at)
            return float(session.scalars(select(age).where(MasterKey.key_id == key_id)).one())


def _expiry(file: Path) -> float | None:
    try:
        return expires_at(file).timestamp()
    except (OSError, ValueError) as error:
        logger.warning("cannot tell when the certificates in %s end: %s", file, error)
        return None
