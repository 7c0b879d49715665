"""What handlers reach for: the container, the services, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app, g

from app.security.principal import Principal

if TYPE_CHECKING:
    from app.api.who import Asker
    from app.container import Container, Services
    from app.container.accounts import Accounts

EXTENSION = "semantic-explorer"


def container() -> Container:
    """Everything that was built at the start."""
    return cast("Container", current_app.extensions[EXTENSION])


def services() -> Services:
    """The use cases."""
    return container().services


def me() -> Principal:
    """Who asks; the guard has seen to it that somebody does."""
    return cast("Principal", g.principal)


def accounts() -> Accounts:
    """Who signs in, and how."""
    return container().accounts


def asker() -> Asker:
    """Who asks, and how that is known."""
    return cast("Asker", g.asker)
