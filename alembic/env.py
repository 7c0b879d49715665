"""Runs migrations: one transaction per step, under lock and statement timeouts, one runner at a time.

The URL comes from DATABASE_URL, or from the caller through `config.attributes["url"]`.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.config import Settings
from app.storage.postgres.tables import Base

# Any constant will do, as long as every release uses the same one.
_ADVISORY_LOCK = 7_201_650_043


def _url() -> str:
    given = context.config.attributes.get("url")
    return str(given or Settings.from_env().database_url_psycopg2)


def run_offline() -> None:
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    engine = create_engine(_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        # A migration that waits behind a long query would stop every query behind itself.
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.execute(text("SET statement_timeout = '15min'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
