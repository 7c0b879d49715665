"""Engine and sessions. One use case = one `transaction()`; what must wait for the commit waits there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import UnavailableError
from app.observability import metrics, server_metrics, tracing
from app.storage.postgres.pool import MeasuredPool, take_idle_seconds

logger = logging.getLogger(__name__)

_AFTER_COMMIT = "after_commit_callbacks"
_TRUSTED_SECONDS = 1.0


class _Asks(threading.local):
    """What a thread is about to take a connection for; whoever gives it out takes that back."""

    to_read = False


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """Pool sizes and times, in seconds."""

    url: str = field(repr=False)
    max_connections: int = 20
    min_connections: int = 2
    acquire_timeout_seconds: int = 30
    idle_timeout_seconds: int = 300
    max_lifetime_seconds: int = 1800
    statement_timeout_seconds: int = 30
    idle_in_transaction_timeout_seconds: int = 60


class Database:
    """Hands out transactions; connects on first use, so a fork before it is safe.

    `watch` is given what makes the sessions, to listen to their events; `before` is called before each
    transaction.
    """

    def __init__(
        self,
        options: DatabaseOptions,
        watch: Callable[[sessionmaker[Session]], None] | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._watch = watch
        self._before = before
        self._lock = threading.Lock()
        self._asks = _Asks()
        self._sessions: sessionmaker[Session] | None = None

    @property
    def engine(self) -> Engine:
        """The process's engine, built on first use."""
        engine: Engine = self._opened().kw["bind"]
        return engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit at the end, roll back on any error, then run what `after_commit` collected.

        Raises UnavailableError when Postgres cannot be reached, is too slow, or has no connection free.
        """
        self._before()
        self._asks.to_read = False
        session = self._opened()()
        try:
            with session.begin():
                yield session
        except (NoFreeConnectionError, DBAPIError) as error:
            self._tell(error)
            raise
        finally:
            session.close()
        for callback in session.info.pop(_AFTER_COMMIT, ()):
            try:
                callback()
            except Exception:
                # What was committed stays so: the caller must not take it for failed.
                logger.exception("a callback after a commit failed")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for statements that only read, without a transaction: two round trips less.

        As in `transaction`, a statement sees what was committed before it began. Raises UnavailableError.
        """
        engine = self.engine
        self._asks.to_read = True
        try:
            with engine.connect() as connection:
                yield connection
        except (NoFreeConnectionError, DBAPIError) as error:
            self._tell(error)
            raise

    def _tell(self, error: NoFreeConnectionError | DBAPIError) -> None:
        """Raise UnavailableError for what is Postgres's fault, or the network's."""
        if isinstance(error, NoFreeConnectionError):
            options = self._options
            raise UnavailableError(
                f"Postgres: no connection was free within {options.acquire_timeout_seconds} s "
                f"(DB_MAX_CONNECTIONS is {options.max_connections})"
            ) from error
        if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
            raise _as_unavailable(error) from error

    def now(self) -> datetime:
        """The time by Postgres's clock, to compare with what rows say; raises UnavailableError.

        A clock of our own may be wrong by hours, and rows are written by the clock of Postgres.
        """
        with self.reading() as connection:
            moment: datetime = connection.execute(select(func.now())).scalar_one()
        return moment

    def ping(self) -> None:
        """One round trip; raises UnavailableError."""
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            sessions, self._sessions = self._sessions, None
        if sessions is not None:
            sessions.kw["bind"].dispose()

    def _opened(self) -> sessionmaker[Session]:
        # Worker threads begin together: without the lock each would open a pool of its own.
        with self._lock:
            if self._sessions is None:
                engine = _build_engine(self._options, self._asks)
                self._sessions = sessionmaker(engine, expire_on_commit=False)
                if self._watch is not None:
                    self._watch(self._sessions)
            return self._sessions


def need_not_last(session: Session) -> None:
    """Do not wait for the disk when this transaction commits: should Postgres crash at once, it is undone.

    For notes that are found out again, and written again, by whoever needs them.
    """
    session.execute(text("SET LOCAL synchronous_commit TO off"))


def after_commit(session: Session, callback: Callable[[], Any]) -> None:
    """Run `callback` once the transaction of `session` has committed; never if it rolls back."""
    session.info.setdefault(_AFTER_COMMIT, []).append(callback)


def _as_unavailable(error: DBAPIError) -> UnavailableError:
    reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
    return UnavailableError(f"Postgres: {reason}")


def _build_engine(options: DatabaseOptions, asks: _Asks) -> Engine:
    engine = create_engine(
        options.url,
        poolclass=MeasuredPool,
        pool_size=options.max_connections,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=options.acquire_timeout_seconds,
        skip_autocommit_rollback=True,
        pool_recycle=options.max_lifetime_seconds,
        connect_args={"connect_timeout": 10, "application_name": "semantic-explorer"},
    )
    assert isinstance(engine.pool, MeasuredPool)
    engine.pool.keep(options.min_connections, options.idle_timeout_seconds)
    server_metrics.POOL_MAX.set(options.max_connections)
    metrics.watch_engine(engine)
    tracing.instrument_engine(engine)
    _replace_idle(engine, options.idle_timeout_seconds)
    statement_ms = options.statement_timeout_seconds * 1000
    idle_ms = options.idle_in_transaction_timeout_seconds * 1000

    @event.listens_for(engine, "connect")
    def _set_limits(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {statement_ms}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {idle_ms}")
        connection.commit()

    # Here, and not where a read ends: a run can be stopped between any two lines, and without a transaction
    # the next one's locks would hold nothing. What is set as it is wanted stays: each change lets go of the
    # interpreter twice, for others to take it.
    @event.listens_for(engine, "checkout")
    def _set_mode(connection: Any, _record: Any, _proxy: Any) -> None:
        reads, asks.to_read = asks.to_read, False
        if connection.autocommit is not reads:
            connection.autocommit = reads

    return engine


def _replace_idle(engine: Engine, timeout_seconds: int) -> None:
    """A connection that lay in the pool for longer is closed and replaced when it is next asked for.

    One that lay there for a moment is asked whether it still lives: a server that restarts takes longer than
    that, and a question before every transaction would cost as much as its first statement.
    """

    @event.listens_for(engine, "checkout")
    def _check(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        idle_seconds = take_idle_seconds(record)
        if idle_seconds > timeout_seconds:
            raise DisconnectionError("idle for too long")  # the pool connects anew
        if idle_seconds > _TRUSTED_SECONDS and not _lives(engine, connection):
            raise DisconnectionError("gone")


def _lives(engine: Engine, connection: Any) -> bool:
    try:
        return bool(engine.dialect.do_ping(connection))
    except engine.dialect.loaded_dbapi.Error:
        return False
