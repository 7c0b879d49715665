"""`flask migrate`: to what this release needs, and not a step back from what a later one has made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import Result
from sqlalchemy import text

from app import cli
from app.config import Settings
from app.container import Container, build
from app.errors import UnavailableError
from app.factory import create_app
from app.storage.postgres.schema import Schema


@pytest.fixture
def container(migrated_url: str, stack_env: dict[str, str]) -> Iterator[Container]:
    made = build(Settings.from_env(stack_env | {"DATABASE_URL": migrated_url}))
    yield made
    made.close()


def migrate(container: Container) -> Result:
    app = create_app(container)
    cli.register(app, container)
    return app.test_cli_runner().invoke(args=["migrate"])


def revision(container: Container, sql: str) -> str | None:
    """Of the database, after a statement about it."""
    with container.database.transaction() as session:
        session.execute(text(sql))
        found: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
        return found


def test_migrating_again_changes_nothing(container: Container):
    before = revision(container, "SELECT 1")
    assert migrate(container).exit_code == 0
    assert revision(container, "SELECT 1") == before


def test_after_a_rollback_the_database_of_the_later_release_is_left_alone(container: Container):
    revision(container, "UPDATE alembic_version SET version_num = '9999'")
    shown = migrate(container)
    assert (shown.exit_code, shown.output.splitlines()[-1]) == (0, "ready")
    assert "the database is a later release's" in shown.output
    assert revision(container, "SELECT 1") == "9999"


def test_a_database_that_was_never_migrated_through_has_no_schema(container: Container):
    revision(container, "DELETE FROM alembic_version")
    assert not container.schema.is_later()
    with pytest.raises(UnavailableError, match="no schema yet"):
        Schema(container.database).check()


def test_a_database_that_is_away_is_told_in_words(stack_env: dict[str, str]):
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    container = build(Settings.from_env(stack_env | away))
    shown = migrate(container)
    container.close()
    assert (shown.exit_code, "Postgres: " in shown.output) == (2, True)
