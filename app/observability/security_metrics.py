"""What the guards refuse, which keys seal the secrets, and how old the newest event of the audit log is."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

AUTH_FAILURES = Counter("auth_failures_total", "Requests refused for who asks", ["reason"])
UPLOADS_REFUSED = Counter("uploads_refused_total", "Files that were not taken", ["reason"])
CALLS_REFUSED = Counter("outbound_calls_refused_total", "Addresses that must not be called", ["reason"])
RATE_REFUSALS = Counter("rate_limit_refusals_total", "Requests over a rate limit", ["limit"])
SECRETS = Gauge(
    "secrets_stored", "Secrets at rest by the key that sealed them", ["key_id"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
AUDIT_HEAD = Gauge(
    "audit_head_timestamp_seconds", "When the newest event of the audit log was written",
    multiprocess_mode="mostrecent",
)  # fmt: skip
CERTIFICATE_EXPIRY = Gauge(
    "tls_certificate_expiry_timestamp_seconds", "When a certificate that we use ends, Unix time", ["use"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
KEY_AGE = Gauge(
    "encryption_key_age_seconds", "How long ago the active master key was first used",
    multiprocess_mode="mostrecent",
)  # fmt: skip
_UNKNOWN = float("nan")

# From nought on, or an alert would not see the first one.
for _reason in ("unauthenticated", "forbidden"):
    AUTH_FAILURES.labels(_reason)
for _reason in ("invalid_url", "plain_http", "closed_address"):
    CALLS_REFUSED.labels(_reason)
for _limit in ("sign-in", "address", "user", "token", "search", "upload", "stream"):
    RATE_REFUSALS.labels(_limit)


def auth_failed(reason: str) -> None:
    """Count a request refused for who asks; `reason` is the code of an error of ours."""
    AUTH_FAILURES.labels(reason).inc()


def uploads_refused(reason: str) -> None:
    """Count a file that was not taken; `reason` is the code of an error of ours."""
    UPLOADS_REFUSED.labels(reason).inc()


def call_refused(reason: str) -> None:
    """Count an address that was not called; `reason` is invalid_url, plain_http or closed_address."""
    CALLS_REFUSED.labels(reason).inc()


def rate_limited(limit: str) -> None:
    """Count a request that was one too many; `limit` is what the key of its bucket begins with."""
    RATE_REFUSALS.labels(limit).inc()


def set_secrets(by_key: Mapping[str, int]) -> None:
    """How many secrets each key has sealed; keys that seal none any more are told as nought."""
    known = {labels[0] for labels in SECRETS._metrics}  # noqa: SLF001 - the library lists them nowhere else
    for key_id in known | by_key.keys():
        SECRETS.labels(key_id).set(by_key.get(key_id, 0))


def set_audit_head(timestamp_seconds: float) -> None:
    """When the newest event was written, in Unix time."""
    AUDIT_HEAD.set(timestamp_seconds)


def set_certificate(use: str, expires_at: float | None) -> None:
    """When the certificate for this use ends, Unix time; None: nobody can tell."""
    CERTIFICATE_EXPIRY.labels(use).set(_UNKNOWN if expires_at is None else expires_at)


def set_key_age(seconds: float) -> None:
    """How long ago the active master key was first used."""
    KEY_AGE.set(seconds)


def forget_key_age() -> None:
    """Postgres did not answer."""
    KEY_AGE.set(_UNKNOWN)
