"""What the commands on dead letters share: options that narrow, and two ways to show things."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetterView
from app.services.letter_export import plain
from app.storage.postgres.tables.dead_letters import LETTER_REASONS, LETTER_STATES

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON, one document a line.")
OFFSET = click.option("--offset", default=0, type=click.IntRange(min=0), help="Pass over so many.")
_STATES = [*LETTER_STATES, "any"]
_TEXTS = (
    "fingerprint", "actor", "queue", "pool", "owner-id", "job-id", "message-id", "worker", "trace-id",
    "error-class",
)  # fmt: skip


def filter_options(function: F) -> F:
    """Add an option for every filter."""
    options = [
        click.option("--state", type=click.Choice(_STATES), default="open", show_default=True),
        click.option("--reason", type=click.Choice(LETTER_REASONS)),
        *(click.option(f"--{name}") for name in _TEXTS),
        click.option("--search", metavar="WORDS", help="In error, document, kind and owner; or an id."),
        click.option("--argument", metavar="PATH=VALUE", help="In the job's arguments, e.g. file_id=7."),
        click.option("--attempts", type=int, help="At least so many."),
        click.option("--younger-than", type=float, metavar="SECONDS", help="Died less long ago."),
        click.option("--older-than", type=float, metavar="SECONDS", help="Died longer ago."),
        click.option("--bulk-id", type=int, help="Ended by this bulk job."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def as_filter(wanted: dict[str, Any]) -> LetterFilter:
    """The filter that the options ask for."""
    state = None if wanted["state"] == "any" else wanted["state"]
    return LetterFilter.of({**wanted, "state": state})


def show(value: T, as_json: bool, as_text: Callable[[T], str]) -> None:  # noqa: FBT001 the option's own shape
    """Print a dataclass, or a dict, as one line of JSON or as text."""
    if not as_json:
        click.echo(as_text(value))
        return
    click.echo(json.dumps(value if isinstance(value, dict) else plain(value), ensure_ascii=False))


def letter_line(letter: DeadLetterView) -> str:
    """A letter on one line."""
    died = letter.died_at.isoformat(timespec="seconds")
    words = (died, letter.reason, letter.actor or "-", letter.fingerprint)
    return f"{letter.dead_letter_id} {letter.state} {' '.join(words)}: {letter.cause}"
