"""Whatever the panel shows and does has a route of the API and a command, and docs/admin.md says which.

A new address of the panel fails here until it stands in PAGES, ACTS or ALONE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from flask import Flask
from pydantic import BaseModel

from app.admin.bulks import STEERS
from app.api.schemas.dead_letters import LetterFilterQuery
from app.api.schemas.jobs import JobQuery
from app.services.letter_bulks import Act

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "admin.md"

# Endpoint of the panel | endpoint of the API | command, with the options that the act needs.
PAGES = """
    panel_letters.index           | dead_letters.list_dead_letter_groups | dlq groups
    panel_letter_list.index_view  | dead_letters.list_dead_letters       | dlq list
    panel_letter_list.export      | dead_letters.export_dead_letters     | dlq export
    panel_letters.letter          | dead_letters.get_dead_letter         | dlq show
    panel_letters.letter          | dead_letters.list_dead_letter_destinations | dlq reroute
    panel_letters.edit            | dead_letters.get_dead_letter         | dlq edit --dry-run
    panel_bulks.index             | dead_letter_bulks.list_bulks         | dlq bulk list
    panel_bulks.bulk              | dead_letter_bulks.get_bulk           | dlq bulk show
    panel_bulks.bulk              | dead_letter_bulks.list_bulk_problems | dlq bulk show
    panel_queues.index            | queues.list_queues                   | queues list
    panel_queues.index            | queues.list_queue_schedules          | queues schedules
    panel_queues.index            | queues.get_queue_configuration       | queues drift --all
    panel_jobs.index_view         | jobs.list_jobs                       | jobs list
    panel_jobs.export             | jobs.list_jobs                       | jobs list --json
    panel_jobs.details_view       | jobs.get_job                         | jobs show
"""

# Every button. What one address does by a word in it, or in its form, stands behind a colon.
ACTS = """
    panel_letters.reveal          | dead_letters.reveal_dead_letter      | dlq show --reveal
    panel_letters.read            | dead_letters.mark_dead_letter_read   | dlq show
    panel_letters.replay:now      | dead_letters.replay_dead_letter      | dlq replay --why
    panel_letters.replay:later    | dead_letters.replay_dead_letter      | dlq replay --in --at
    panel_letters.reroute         | dead_letters.reroute_dead_letter     | dlq reroute --to
    panel_letters.edited          | dead_letters.edit_dead_letter        | dlq edit --set --dry-run
    panel_letters.discard         | dead_letters.discard_dead_letter     | dlq discard --why
    panel_letters.undo            | dead_letters.undo_dead_letter        | dlq undo
    panel_bulks.prepare:replay    | dead_letter_bulks.prepare_bulk       | dlq bulk replay --canary
    panel_bulks.prepare:discard   | dead_letter_bulks.prepare_bulk       | dlq bulk discard
    panel_bulks.steer:start       | dead_letter_bulks.start_bulk         | dlq bulk start
    panel_bulks.steer:pause       | dead_letter_bulks.pause_bulk         | dlq bulk pause
    panel_bulks.steer:resume      | dead_letter_bulks.resume_bulk        | dlq bulk resume
    panel_bulks.steer:cancel      | dead_letter_bulks.cancel_bulk        | dlq bulk cancel
    panel_bulks.steer:undo        | dead_letter_bulks.undo_bulk          | dlq bulk undo
    panel_queues.pause            | queues.pause_queue                   | queues pause --for --until
    panel_queues.resume           | queues.resume_queue                  | queues resume
    panel_jobs.cancel             | jobs.cancel_job                      | jobs cancel
    panel_jobs.run_again          | jobs.run_job_again                   | jobs run-again
"""

# Addresses that have neither, and why.
ALONE = {
    "admin.index": "leads on to the first page",
    "panel.static": "styles and scripts of the pages",
    "panel_parts.index": "leads on to the first page",
    "panel_runbooks.index": "pages of docs/runbooks, which programs have as files",
    "panel_runbooks.page": "a page of docs/runbooks",
    "panel_parts.groups": "the live part of panel_letters.index",
    "panel_parts.bulks": "the live part of panel_bulks.index",
    "panel_parts.bulk": "the live part of panel_bulks.bulk",
    "panel_parts.queues": "the live part of panel_queues.index",
    "panel_parts.job": "the live part of panel_jobs.details_view",
}
# Filters that a list of the panel has, each a parameter of the API and an option of the command.
FILTERS: dict[str, tuple[type[BaseModel], str]] = {
    "panel_letter_list": (LetterFilterQuery, "dlq list"),
    "panel_jobs": (JobQuery, "jobs list"),
}


def rows(table: str) -> Iterator[tuple[str, str, str]]:
    for line in filter(None, map(str.strip, table.splitlines())):
        panel, api, command = (part.strip() for part in line.split("|"))
        yield panel, api, command


def panel_endpoints(app: Flask, method: str) -> set[str]:
    return {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/admin") and method in (rule.methods or ())
    }


def command_of(app: Flask, words: str) -> click.Command:
    found: click.Command = app.cli
    for word in words.partition(" --")[0].split():
        assert isinstance(found, click.Group), f"flask {words}: no group"
        assert word in found.commands, f"flask {words}: there is no such command"
        found = found.commands[word]
    return found


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_every_button_of_the_panel_stands_in_the_table(app: Flask):
    listed = {panel.partition(":")[0] for panel, _, _ in rows(ACTS)}
    assert listed == panel_endpoints(app, "POST"), "name the route and the command of each button in ACTS"


def test_every_page_of_the_panel_stands_in_the_table(app: Flask):
    listed = [panel for panel, _, _ in rows(PAGES)]
    assert {*listed, *ALONE} == panel_endpoints(app, "GET"), "name the route and the command in PAGES"
    assert not set(listed) & ALONE.keys()


@pytest.mark.parametrize(
    ("address", "acts"), [("panel_bulks.steer", STEERS), ("panel_bulks.prepare", get_args(Act))]
)
def test_an_address_with_several_acts_has_a_line_for_each(address: str, acts: tuple[str, ...]):
    listed = [panel.partition(":")[2] for panel, _, _ in rows(ACTS) if panel.startswith(f"{address}:")]
    assert sorted(listed) == sorted(acts)


@pytest.mark.parametrize(("table", "method"), [(PAGES, "GET"), (ACTS, "POST")], ids=["pages", "acts"])
def test_every_route_that_the_table_names_is_there(app: Flask, table: str, method: str):
    served = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and method in (rule.methods or ())
    }
    assert {api for _, api, _ in rows(table)} - served == set()


@pytest.mark.parametrize("words", sorted({command for _, _, command in rows(PAGES + ACTS)}))
def test_every_command_that_the_table_names_is_there_and_speaks_json(app: Flask, words: str):
    command = command_of(app, words)
    options = {word for word in words.split() if word.startswith("--")}
    assert options - options_of(command) == set(), f"flask {words}"
    assert command.help, f"flask {words} --help says nothing"
    if words != "dlq export":  # which speaks nothing else
        assert "--json" in options_of(command), f"flask {words}"


@pytest.mark.parametrize("verb", ["list", "show", "cancel", "run-again"])
def test_the_help_of_commands_on_jobs_ends_with_an_example(app: Flask, verb: str):
    shown = app.test_cli_runner().invoke(args=["jobs", verb, "--help"]).output
    assert f"\n  Example: flask --app wsgi jobs {verb} " in shown


@pytest.mark.parametrize("view", FILTERS)
def test_every_filter_of_a_list_is_one_of_the_api_and_of_the_command(app: Flask, view: str):
    query, words = FILTERS[view]
    lists: dict[str, Any] = {one.endpoint: one for one in app.extensions["admin"][0]._views}
    named = {one.key for one in lists[view].column_filters}
    assert len(named) > 5
    assert named - set(query.model_fields) == set()
    assert {f"--{name.replace('_', '-')}" for name in named} - options_of(command_of(app, words)) == set()


@pytest.mark.parametrize(("table", "method"), [(PAGES, "GET"), (ACTS, "POST")], ids=["pages", "acts"])
def test_the_documents_name_each_way(app: Flask, table: str, method: str):
    paths = {rule.endpoint: rule.rule for rule in app.url_map.iter_rules()}
    wanted = {f"{method} {written(paths[api])}" for _, api, _ in rows(table)}
    wanted |= {f"flask {command.partition(' --')[0]}" for _, _, command in rows(table)}
    assert wanted - set(re.findall(r"`([^`]+)`", DOCUMENT.read_text())) == set(), "docs/admin.md has a table"


def written(path: str) -> str:
    """An address as documents write it: {id} for every id."""
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "{queue}" if found[1] == "queue" else "{id}", path)
