"""`flask jobs`: what the panel's pages of jobs show and do, for a shell. It speaks JSON, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import click

from app.commands.dlq_output import AS_JSON, show
from app.commands.moments import Span
from app.commands.operator import OPERATOR, as_operator
from app.container import Container
from app.jobs.contracts import CONTRACTS
from app.jobs.policy import MAX_ATTEMPTS
from app.services.job_desk import JobDetail
from app.services.job_filters import QUEUES, SCOPE_KINDS, STATES, JobFilter
from app.services.job_story import Moment
from app.services.jobs import JobView

F = TypeVar("F", bound=Callable[..., Any])

_KEY = click.argument("job_id", type=click.UUID)
_KEYS = click.argument("job_ids", type=click.UUID, nargs=-1, required=True)
_AGES = {"younger_than", "older_than"}
_ID = "3f2b8e1c-7a54-4d0e-9c61-2f7d5b0a9e44"


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("jobs")
    def jobs() -> None:
        """Jobs of everybody: find, look, cancel, run again."""

    for command in (_list, _show, _cancel, _run_again):
        jobs.add_command(command(container))
    return jobs


def _example(words: str) -> str:
    """The end of a command's help, on a line of its own."""
    return f"\b\nExample: flask --app wsgi jobs {words}"


def _filter_options(function: F) -> F:
    """Add an option for every filter."""
    options = [
        click.option("--job-id", type=click.UUID, help="The one with this id."),
        click.option("--state", type=click.Choice(STATES)),
        click.option("--kind", type=click.Choice(list(CONTRACTS))),
        click.option("--queue", type=click.Choice(QUEUES)),
        click.option("--owner-id", help="Whose."),
        click.option("--worker", help="Run last by this worker."),
        click.option("--error-code", help="Failed with it, e.g. unreadable_file."),
        click.option("--scope-kind", type=click.Choice(SCOPE_KINDS), help="What they serve."),
        click.option("--scope-id", type=click.IntRange(1), help="The id of that; needs --scope-kind."),
        click.option("--younger-than", type=Span(), help="Recorded less long ago: 90s, 15m, 2h, 1d."),
        click.option("--older-than", type=Span(), help="Recorded longer ago."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _as_filter(given: dict[str, Any]) -> JobFilter:
    values = {name: value for name, value in given.items() if value is not None}
    for name in values.keys() & _AGES:
        values[name] = values[name].total_seconds()
    if "job_id" in values:
        values["job_id"] = str(values["job_id"])
    return JobFilter(**values)


def _list(container: Container) -> click.Command:
    @click.command("list", epilog=_example("list --state dead --kind extract_file --younger-than 2h"))
    @_filter_options
    @click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
    @click.option("--after", "cursor", help="The token that the page before ended with.")
    @AS_JSON
    @as_operator
    def list_jobs(*, limit: int, cursor: str | None, as_json: bool, **given: Any) -> None:
        """Jobs, the newest first."""
        page = container.services.jobs.list(OPERATOR, _as_filter(given), limit=limit, cursor=cursor)
        if as_json:
            show(page, as_json, str)
            return
        for job in page.items:
            click.echo(_line(job))
        if not page.items:
            click.echo("no job matches")
        if page.next_cursor:
            click.echo(f"{page.total_count} match; more: --after {page.next_cursor}", err=True)

    return list_jobs


def _show(container: Container) -> click.Command:
    @click.command("show", epilog=_example(f"show {_ID}"))
    @_KEY
    @AS_JSON
    @as_operator
    def show_job(*, job_id: UUID, as_json: bool) -> None:
        """One job with its timeline, arguments and dead letters."""
        show(container.services.job_desk.get(OPERATOR, job_id), as_json, _text)

    return show_job


def _cancel(container: Container) -> click.Command:
    @click.command("cancel", epilog=_example(f"cancel {_ID}"))
    @_KEYS
    @AS_JSON
    @as_operator
    def cancel(*, job_ids: tuple[UUID, ...], as_json: bool) -> None:
        """Stop jobs: what waits never starts, what runs writes nothing more.

        Ends with status 2 at the first that has ended, or that cleans up; those before it are stopped.
        """
        _each(container, container.services.job_desk.cancel, job_ids, "is cancelled", as_json=as_json)

    return cancel


def _run_again(container: Container) -> click.Command:
    @click.command("run-again", epilog=_example(f"run-again {_ID}"))
    @_KEYS
    @AS_JSON
    @as_operator
    def run_again(*, job_ids: tuple[UUID, ...], as_json: bool) -> None:
        """Let dead jobs start anew, with five fresh attempts and what failed with them.

        Ends with status 2 at the first that is not dead, or whose work a later job does, or has done.
        """
        _each(container, container.services.job_desk.run_again, job_ids, "runs again", as_json=as_json)

    return run_again


def _each(
    container: Container, act: Callable[..., None], ids: tuple[UUID, ...], done: str, *, as_json: bool
) -> None:
    """Do it to one after the other, and tell what was done."""
    for job_id in ids:
        act(OPERATOR, job_id)
        show(container.services.job_desk.get(OPERATOR, job_id), as_json, lambda one: f"{one.job_id} {done}")


def _line(job: JobView) -> str:
    recorded = job.created_at.isoformat(timespec="seconds")
    words = f"{job.job_id} {job.state} {recorded} {job.kind} of {_owner(job)}"
    return f"{words}: {job.error_code}: {job.error_message}" if job.error_code else words


def _text(job: JobDetail) -> str:
    return "\n".join(_lines(job))


def _lines(job: JobDetail) -> Iterator[str]:
    yield _line(job)
    yield f"queue {job.queue}, attempt {job.attempt} of {MAX_ATTEMPTS} on {job.worker or 'no worker'}"
    if job.scope_kind is not None:
        yield f"serves {job.scope_kind} {job.scope_id}"
    yield f"arguments: {json.dumps(job.arguments)}"
    if job.outcome:
        yield f"outcome: {json.dumps(job.outcome)}"
    if job.trace_id is not None:
        yield f"trace {job.trace_id}"
    yield from map(_moment, job.timeline)
    if job.dead_letter_ids:
        yield f"dead letters: {' '.join(map(str, job.dead_letter_ids))}"


def _moment(one: Moment) -> str:
    at = one.at.isoformat(timespec="seconds") if one.at else "now"
    return f"  {at} {one.what}{f': {one.note}' if one.note else ''}"


def _owner(job: JobView) -> str:
    return job.owner_id or "the installation"
