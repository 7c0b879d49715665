"""Which keys seal the secrets and how old the audit log's newest event is, as gauges."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import select

from app.observability import security_metrics
from app.services.secrets import Secrets
from app.storage.postgres.tables import AuditEvent

_UNKNOWN = "unknown"  # a key that is not configured: its name may be anything that somebody wrote into a row


def measure(secrets: Secrets) -> None:
    """Count and set. Raises UnavailableError."""
    ring = secrets.box.keyring.keys
    by_key: Counter[str] = Counter(dict.fromkeys(ring, 0))
    for key_id, number in secrets.count().items():
        by_key[key_id if key_id in ring else _UNKNOWN] += number
    security_metrics.set_secrets(by_key)
    with secrets.database.transaction() as session:
        newest = session.scalar(select(AuditEvent.at).order_by(AuditEvent.id.desc()).limit(1))
    if newest is not None:
        security_metrics.set_audit_head(newest.timestamp())
