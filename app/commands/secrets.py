"""`flask secrets`: rotate and verify the sealed provider keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from app.commands.operator import as_operator
from app.container import Container
from app.services.secrets import Checked, Fault

_SHOWN = 20  # faults on the screen; their number is always told


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("secrets")
    def secrets() -> None:
        """The provider keys at rest."""

    @secrets.command("rotate")
    @click.option("--dry-run", is_flag=True, help="Open everything, show what would change, change nothing.")
    @click.option("--batch-size", default=500, show_default=True, help="Secrets per transaction.")
    @as_operator
    def rotate(*, dry_run: bool, batch_size: int) -> None:
        """Seal every secret with ENCRYPTION_MASTER_KEY that a retired key still seals.

        Runs beside the product and may be ended and begun again at any moment. Ends with status 1 when
        secrets are left that have another key or do not open, 2 when it could not run.
        """
        _rotate(container, dry_run=dry_run, batch_size=batch_size)

    @secrets.command("verify")
    @as_operator
    def verify() -> None:
        """Open every secret, and name those that do not open or have a retired key; changes nothing.

        Ends with status 0 when every secret opens and has the active key, 1 when not, 2 when it could not
        run.
        """
        _verify(container)

    return secrets


def _rotate(container: Container, *, dry_run: bool, batch_size: int) -> None:
    service, active = container.all_secrets, container.secrets.key_id
    click.echo(f"active key: {active}; secrets by key: {_by_key(service.count())}")
    if not dry_run:
        container.audit.note("secrets.rotation_started", details={"to_key": active})
    rotated, faults = 0, set[Fault]()
    for batch in service.rotate(batch_size=batch_size, dry_run=dry_run):
        rotated += batch.rotated
        faults.update(batch.faults)
        word = "would rotate" if dry_run else "rotated"
        click.echo(f"{word} {rotated}: {batch.table}.{batch.column} to row {batch.last}")
    left = 0 if dry_run else sum(number for key, number in service.count().items() if key != active)
    if not dry_run:
        details = {"to_key": active, "rotated": rotated, "left": left}
        outcome = "failure" if left else "success"
        container.audit.note("secrets.rotation_finished", outcome=outcome, details=details)
    _show(faults)
    if left or faults:
        sys.exit(1)
    click.echo("nothing was changed" if dry_run else f"done: every secret has key {active}")


def _verify(container: Container) -> None:
    checked, found = Checked(), 0
    for fault in container.all_secrets.verify(checked):
        found += 1
        if found <= _SHOWN:
            click.echo(fault)
    click.echo(
        f"{checked.total} secrets; by key: {_by_key(checked.by_key)}; active: {container.secrets.key_id}"
    )
    if found:
        click.echo(f"{found} are not as they should be", err=True)
        sys.exit(1)


def _show(faults: set[Fault]) -> None:
    for fault in sorted(faults, key=lambda one: (one.table, one.column, one.row))[:_SHOWN]:
        click.echo(fault)
    if faults:
        click.echo(f"{len(faults)} secrets do not open and were left as they are", err=True)


def _by_key(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {number}" for key, number in sorted(counts.items())) or "none"
