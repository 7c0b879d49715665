"""Commands for operators: `flask --app wsgi COMMAND`. Every one has --help."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from flask import Flask

from app.container import Container
from app.errors import ExplorerError

_ROOT = Path(__file__).resolve().parent.parent


def register(app: Flask, container: Container) -> None:
    """Add the commands to Flask's."""
    app.cli.add_command(_migrate(container))
    app.cli.add_command(_streams(container))
    app.cli.add_command(_reconcile(container))


def _migrate(container: Container) -> click.Command:
    @click.command("migrate")
    def migrate() -> None:
        """Bring database, streams and bucket to what this release needs; safe to repeat."""
        from alembic import command
        from alembic.config import Config

        config = Config(toml_file=_ROOT / "pyproject.toml")
        config.attributes["url"] = container.settings.database_url_psycopg2
        command.upgrade(config, "head")
        _apply_streams(container, dry_run=False)
        container.blobs.ensure_bucket()
        click.echo("ready")

    return migrate


def _streams(container: Container) -> click.Group:
    @click.group("streams")
    def streams() -> None:
        """The NATS streams and consumers."""

    @streams.command("apply")
    @click.option("--dry-run", is_flag=True, help="Show what would change and change nothing.")
    def apply(*, dry_run: bool) -> None:
        """Create or update every stream and consumer, and show what changed."""
        _apply_streams(container, dry_run=dry_run)

    return streams


def _apply_streams(container: Container, *, dry_run: bool) -> None:
    changes = container.apply_topology(dry_run=dry_run)
    for change in changes:
        click.echo(change)
    if not changes:
        click.echo("streams are as they should be")


def _reconcile(container: Container) -> click.Command:
    @click.command("reconcile")
    @click.option("--dry-run", is_flag=True, help="Count what would be sent again and send nothing.")
    def reconcile(*, dry_run: bool) -> None:
        """Find jobs that no message stands for, and send them again."""
        try:
            finding = container.reconciler.run(dry_run=dry_run)
        except ExplorerError as error:
            sys.exit(str(error))
        if finding is None:
            sys.exit("another process is reconciling at this moment; try again")
        verb = "would be sent" if dry_run else "sent"
        click.echo(
            f"{verb} again: {finding.unpublished} never published, {finding.overdue} overdue, "
            f"{finding.lost_workers} whose worker is gone"
        )

    return reconcile
