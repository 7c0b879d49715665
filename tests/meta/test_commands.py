"""Commands that the pages tell operators to type are there, with the options that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from flask import Flask

from app import cli
from app.config import Settings
from app.container import build
from devstack.product import ROOT

pytestmark = pytest.mark.meta
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "helm/semantic-explorer/README.md",
]


TOLD = re.compile(
    r"flask (?:--app wsgi )?([a-z][^`\n|;&#)…]+)"
    r"|`((?:audit|dlq|jobs|queues|reconcile|secrets|streams|users) [a-z-][^`\n|;&#)…]+)`"
)


def told() -> Iterator[tuple[str, str]]:
    """Page, and what follows `flask` there, or stands for itself in backticks."""
    for page in PAGES:
        for words in re.findall(TOLD, page.read_text()):
            yield page.name, "".join(words).strip()


@pytest.fixture(scope="module")
def commands() -> click.Group:
    app = Flask("pages")
    cli.register(app, build(Settings.from_env({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"})))
    return app.cli


def missing(group: click.Group, words: str) -> list[str]:
    """Words that the commands do not know; arguments of a command are its own business."""
    command: click.Command = group
    unknown = []
    for word in words.split():
        if word.startswith("--"):
            known = {option for each in command.params for option in each.opts + each.secondary_opts}
            unknown += [] if word.partition("=")[0] in known | {"--help"} else [word]
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return [*unknown, word]
            command = command.commands[word]
    return unknown


def test_every_command_of_the_pages_is_there(commands: click.Group):
    found = list(told())
    assert {"secrets rotate", "secrets verify", "audit verify", "migrate"} <= {words for _, words in found}
    assert {(page, words): lost for page, words in found if (lost := missing(commands, words))} == {}
