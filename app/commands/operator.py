"""Who runs a command: the audit log names the user of the machine."""

from __future__ import annotations

import functools
import os
import pwd
import socket
import sys
from collections.abc import Callable
from typing import ParamSpec
from uuid import uuid4

import click

from app.errors import ExplorerError
from app.security.audit import Origin, acting
from app.security.principal import Principal, Role

P = ParamSpec("P")

# Whoever has a shell here may do everything; the audit log has their own name.
OPERATOR = Principal("operator", "Operator", Role.ADMIN)


def as_operator(function: Callable[P, None]) -> Callable[P, None]:
    """Let what a command does be recorded under the user's name; one of our errors ends it with status 2."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        with acting(Origin(f"operator:{_user()}", address=socket.gethostname(), request_id=uuid4().hex)):
            try:
                function(*args, **kwargs)
            except ExplorerError as error:
                click.echo(error.message, err=True)
                sys.exit(2)

    return command


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user often has no name
        return str(os.getuid())
