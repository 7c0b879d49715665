"""Commands for operators: `flask --app wsgi COMMAND`. Every one has --help."""

from __future__ import annotations

from pathlib import Path

import click
from flask import Flask

from app.commands import audit, dlq, jobs, queues, reconcile, secrets, users
from app.commands.operator import as_operator
from app.container import Container

_ROOT = Path(__file__).resolve().parent.parent


def register(app: Flask, container: Container) -> None:
    """Add the commands to Flask's."""
    app.cli.add_command(_migrate(container))
    app.cli.add_command(_streams(container))
    app.cli.add_command(reconcile.command(container))
    app.cli.add_command(secrets.group(container))
    app.cli.add_command(audit.group(container))
    app.cli.add_command(dlq.group(container))
    app.cli.add_command(queues.group(container))
    app.cli.add_command(jobs.group(container))
    app.cli.add_command(users.group(container))


def _migrate(container: Container) -> click.Command:
    @click.command("migrate")
    @as_operator
    def migrate() -> None:
        """Bring database, streams and bucket to what this release needs; safe to repeat."""
        if container.schema.is_later():
            click.echo("the database is a later release's, which this one works with: it stays as it is")
        else:
            _upgrade(container)
        _apply_streams(container, dry_run=False)
        container.blobs.ensure_bucket()
        click.echo("ready")

    return migrate


def _upgrade(container: Container) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(toml_file=_ROOT / "pyproject.toml")
    config.attributes["url"] = container.settings.database_url_psycopg2
    command.upgrade(config, "head")


def _streams(container: Container) -> click.Group:
    @click.group("streams")
    def streams() -> None:
        """The NATS streams and consumers."""

    @streams.command("apply")
    @click.option("--dry-run", is_flag=True, help="Show what would change and change nothing.")
    @as_operator
    def apply(*, dry_run: bool) -> None:
        """Create or update every stream and consumer, and show what changed."""
        _apply_streams(container, dry_run=dry_run)

    return streams


def _apply_streams(container: Container, *, dry_run: bool) -> None:
    changes = container.apply_topology(dry_run=dry_run)
    for change in changes:
        click.echo(change)
    if changes and not dry_run:
        container.audit.note("streams.applied", details={"changes": [str(change) for change in changes]})
    if not changes:
        click.echo("streams are as they should be")
