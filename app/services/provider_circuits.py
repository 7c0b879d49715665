"""Circuit breakers for providers, shared by the fleet: a row in Postgres for each that fails or is full.

After some failures in a row nobody calls for a while; then one process probes, and the others wait for what
comes of it. A success closes, a failed probe opens for twice as long. Where Postgres does not answer, every
call is let through: whatever needs it says so itself.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.errors import ProviderPausedError, UnavailableError
from app.observability.server_metrics import circuit_changed, set_open_circuits
from app.storage.postgres.session import Database

_LOG = logging.getLogger(__name__)

_LOOK = text(
    "SELECT failures, cause, extract(epoch FROM open_until - clock_timestamp())::float8 AS seconds "
    "FROM provider_circuits WHERE key = :key"
)
# Whoever finds the time up takes the probe: for the others it stays open until that call must have ended.
_PROBE = text(
    "UPDATE provider_circuits SET open_until = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE key = :key AND open_until <= clock_timestamp() RETURNING TRUE"
)
_CLOSE = text("DELETE FROM provider_circuits WHERE key = :key RETURNING open_until IS NOT NULL")
# A failure of a call that began before the circuit was opened makes it no longer.
_FAIL = text(
    """
    INSERT INTO provider_circuits AS kept (key, failures, cause, updated_at)
    VALUES (:key, 1, :cause, clock_timestamp())
    ON CONFLICT (key) DO UPDATE SET
        failures = kept.failures + 1, cause = :cause, updated_at = clock_timestamp()
    RETURNING failures, open_until > clock_timestamp() AS is_open
    """
)
_OPEN = text(
    """
    UPDATE provider_circuits SET
        open_seconds = least(greatest(2 * open_seconds, :first), :longest),
        open_until = clock_timestamp()
            + make_interval(secs => least(greatest(2 * open_seconds, :first), :longest))
    WHERE key = :key
    """
)
_PAUSE = text(
    """
    INSERT INTO provider_circuits AS kept (key, failures, cause, open_until, updated_at)
    VALUES (:key, 0, :cause, clock_timestamp() + make_interval(secs => :seconds), clock_timestamp())
    ON CONFLICT (key) DO UPDATE SET
        cause = :cause, updated_at = clock_timestamp(),
        open_until = CASE WHEN :is_probe THEN excluded.open_until
            ELSE greatest(kept.open_until, excluded.open_until) END
    """
)
_COUNT = text("SELECT count(*) FROM provider_circuits WHERE open_until > clock_timestamp()")
# Of providers that nobody calls any more.
_CLEAN = text("DELETE FROM provider_circuits WHERE updated_at < clock_timestamp() - interval '1 day'")


@dataclass(frozen=True, slots=True)
class CircuitOptions:
    """When a circuit opens, and for how long at first and at most."""

    failures: int = 5
    first_open_seconds: float = 30.0
    longest_open_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A call that was let through. `known`: there is a row to do away with; `is_probe`: all wait for it."""

    key: str
    known: bool = False
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class ProviderCircuits:
    """The circuit of each key."""

    database: Database
    options: CircuitOptions = CircuitOptions()

    def enter(self, key: str, host: str, *, timeout_seconds: float) -> Passage:
        """Let a call through that ends within the timeout; raises ProviderPausedError, saying when next."""
        row = None
        with suppress(UnavailableError), self.database.transaction() as session:
            row = session.execute(_LOOK, {"key": key}).one_or_none()
            if row is None or row.seconds is None:
                return Passage(key, known=row is not None)
            if row.seconds <= 0 and session.scalar(_PROBE, {"key": key, "seconds": timeout_seconds}):
                return Passage(key, known=True, is_probe=True)
        if row is None:
            return Passage(key)
        raise _paused(host, row)

    def succeeded(self, passage: Passage) -> None:
        """The provider answered: whatever failed before is forgotten."""
        if not passage.known:
            return
        with suppress(UnavailableError), self.database.transaction() as session:
            if session.scalar(_CLOSE, {"key": passage.key}):
                circuit_changed("closed")

    def failed(self, passage: Passage, cause: str) -> None:
        """The provider gave no answer, or one that says that it is out of order."""
        values = {
            "key": passage.key,
            "cause": cause,
            "first": self.options.first_open_seconds,
            "longest": self.options.longest_open_seconds,
        }
        with suppress(UnavailableError), self.database.transaction() as session:
            row = session.execute(_FAIL, values).one()
            if passage.is_probe or (row.failures >= self.options.failures and not row.is_open):
                session.execute(_OPEN, values)
                session.execute(_CLEAN)
                circuit_changed("open")
                _LOG.warning("a provider %s, %d times in a row: it is left alone", cause, row.failures)

    def pause(self, passage: Passage, seconds: float) -> None:
        """The provider asked to be left alone for so long."""
        values: dict[str, Any] = {"key": passage.key, "cause": "asked us to wait", "seconds": seconds}
        values["is_probe"] = passage.is_probe
        with suppress(UnavailableError), self.database.transaction() as session:
            session.execute(_PAUSE, values)

    def measure(self) -> None:
        """Set the gauge of circuits that are open; to nothing where Postgres does not answer."""
        number = None
        with suppress(UnavailableError), self.database.transaction() as session:
            number = int(session.scalar(_COUNT) or 0)
        set_open_circuits(number)


def _paused(host: str, row: Any) -> ProviderPausedError:
    seconds = max(1.0, row.seconds)
    times = f", {row.failures} times in a row" if row.failures > 1 else ""
    return ProviderPausedError(
        f"{host} {row.cause}{times}, so it is not asked just now; next try in {seconds:.0f} s.",
        retry_after_seconds=seconds,
    )
