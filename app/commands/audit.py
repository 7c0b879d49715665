"""`flask audit`: check the audit log, and drop its oldest part."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from app.commands.operator import as_operator
from app.container import Container
from app.services.audit_check import ChainCheck, Place

_SHOWN = 50  # findings on the screen; their number is always told


class _PlaceType(click.ParamType[Place]):
    name = "number:code"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        try:
            return Place.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("audit")
    def audit() -> None:
        """The log of who did what."""

    @audit.command("verify")
    @click.option(
        "--contains", type=_PlaceType(), help="An event noted earlier, elsewhere, that must still be there."
    )
    @as_operator
    def verify(*, contains: Place | None) -> None:
        """Find events that were changed, removed, inserted or moved; changes nothing.

        Ends with status 0 when the log is whole, 1 when not, 2 when it could not be checked, which is also so
        where no key is configured.
        """
        check = _verify(container, contains)
        if check.sealer.key_id is None:
            click.echo("ENCRYPTION_MASTER_KEY is not set: forgery cannot be told from truth", err=True)
            sys.exit(2)

    @audit.command("prune")
    @click.option("--before", type=click.DateTime(), required=True, help="Drop what is older (UTC).")
    @as_operator
    def prune(*, before: datetime) -> None:
        """Drop the oldest events. Verifies the log first, and drops nothing from one that is not whole."""
        _verify(container, None)
        click.echo(f"dropped {container.audit.prune(before.replace(tzinfo=UTC))} events")

    return audit


def _verify(container: Container, contains: Place | None) -> ChainCheck:
    check, found = container.audit.check(contains), 0
    for finding in container.audit.verify(check):
        found += 1
        if found <= _SHOWN:
            click.echo(finding)
    if check.unsealed:
        click.echo(f"{check.unsealed} events were written without a key: they prove nothing by themselves")
    click.echo(f"{check.events} events; the last is {check.last_id}:{check.mac.hex()}")
    if found:
        click.echo(f"{found} findings: the audit log is not whole", err=True)
        sys.exit(1)
    return check
