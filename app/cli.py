"""Commands for operators: `flask --app wsgi COMMAND`. Every one has --help."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from flask import Flask

from app.commands import audit, dlq, queues, secrets, users
from app.commands.operator import as_operator
from app.container import Container
from app.jobs.reconcile import Finding
from app.jobs.sweeps import Swept

_ROOT = Path(__file__).resolve().parent.parent
_SHOWN = 20  # lines per cause


def register(app: Flask, container: Container) -> None:
    """Add the commands to Flask's."""
    app.cli.add_command(_migrate(container))
    app.cli.add_command(_streams(container))
    app.cli.add_command(_reconcile(container))
    app.cli.add_command(secrets.group(container))
    app.cli.add_command(audit.group(container))
    app.cli.add_command(dlq.group(container))
    app.cli.add_command(queues.group(container))
    app.cli.add_command(users.group(container))


def _migrate(container: Container) -> click.Command:
    @click.command("migrate")
    @as_operator
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


def _reconcile(container: Container) -> click.Command:
    @click.command("reconcile")
    @click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
    @as_operator
    def reconcile(*, dry_run: bool) -> None:
        """Send jobs again that no message stands for; clean up what has no job or no row."""
        finding = container.reconciler.run(dry_run=dry_run)
        if finding is None:
            sys.exit("another process is reconciling at this moment; try again")
        swept = container.sweeps.run(dry_run=dry_run)
        plans = len(swept.collection_transforms) + len(swept.dataset_transforms)
        found = finding.counts() | swept.counts() | {"plans": plans}
        if any(found.values()) and not dry_run:
            container.audit.note("jobs.reconciled", details=found)
        for line in _report(finding, swept, "would " if dry_run else ""):
            click.echo(line)

    return reconcile


def _report(finding: Finding, swept: Swept, would: str) -> Iterator[str]:
    ids = finding.job_ids
    deeds: list[tuple[str, Sequence[object]]] = [
        ("send again, never published: job", ids.get("unpublished", ())),
        ("send again, overdue: job", ids.get("overdue", ())),
        ("send again, its worker is gone: job", ids.get("lost_workers", ())),
        ("plan again, files wait for jobs that are over: collection transform", swept.collection_transforms),
        ("plan again, items wait for jobs that are over: dataset transform", swept.dataset_transforms),
        ("delete, no row names it: object", swept.objects),
        ("drop, no row names it: vector index", swept.indexes),
        ("fail what waits for it, its object is gone: file", swept.files),
        ("fail, its points are gone: map", swept.maps),
        ("show again, its points are back: map", swept.maps_back),
        ("plan again, rows and vectors differ: embedded dataset", swept.vectors),
        ("end the job, its message was given up: dead letter", swept.letters),
        ("leave alone, its job is gone: dead letter", swept.letters_without_job),
        ("leave alone, it died without a dead letter: job", swept.dead_without_letter),
    ]
    for deed, found in deeds:
        yield from (f"{would}{deed} {each}" for each in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"{would}{deed}: and {len(found) - _SHOWN} more"
    if not any(found for _, found in deeds):
        yield "nothing to do"
