"""`flask users`: give what a single user made to the person who signs in now."""

from __future__ import annotations

import click

from app.commands.operator import as_operator
from app.container import Container
from app.security.principal import SINGLE_USER
from app.services.adoption import Adopted, Adoption


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("users")
    def users() -> None:
        """People and what they own."""

    @users.command("adopt")
    @click.argument("person")
    @click.option("--from", "source", default=SINGLE_USER.owner_id, show_default=True, help="Whose things.")
    @click.option("--dry-run", is_flag=True, help="Show what would be given, and give nothing.")
    @as_operator
    def adopt(*, person: str, source: str, dry_run: bool) -> None:
        """Give everything of the single user (or of --from) to PERSON: owner id, user name or mail address.

        PERSON must have signed in once, and no job may be under way. Vectors follow the rows; until all have,
        search does not find them. Cut short, do it again. Ends with status 2 when it could not be done.
        """
        adoption = Adoption(container.database, container.secrets, container.audit.trail, container.vectors)
        _report(adoption.adopt(source, adoption.person(person), dry_run=dry_run), dry_run=dry_run)

    return users


def _report(adopted: Adopted, *, dry_run: bool) -> None:
    for table, number in adopted.rows.items():
        click.echo(f"{number:>10} {table}")
    click.echo(f"{adopted.vectors:>10} vectors")
    click.echo(f"{'would be' if dry_run else 'were'} given to {adopted.owner_id}")
