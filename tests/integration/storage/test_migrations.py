"""The migrations make the tables that the program declares, and lead back."""

from __future__ import annotations

from alembic import command

from tests.support.domain import migration_config


def test_the_migrations_lead_to_the_declared_tables_and_back(migrated_url: str):
    config = migration_config(migrated_url)
    command.check(config)  # raises where a new migration would be generated
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    command.check(config)
