"""`flask reconcile`: what the reconciler and the sweeps would do, do, or found before."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click

from app.commands.dlq_output import AS_JSON, show
from app.commands.operator import as_operator
from app.container import Container
from app.jobs.reconcile import BATCH, Finding
from app.jobs.reconciliations import Pass, newest_passes
from app.jobs.sweeps import Swept

_SHOWN = 20  # lines per cause


def command(container: Container) -> click.Command:
    """The command, on this container's database and stores."""

    @click.command("reconcile")
    @click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
    @click.option(
        "--streams-lost",
        is_flag=True,
        help="Send every active job again, not only those that are missed: for streams that were made anew.",
    )
    @click.option("--history", is_flag=True, help="Show what the latest passes found, and do nothing.")
    @click.option(
        "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Passes shown."
    )
    @AS_JSON
    @as_operator
    def reconcile(*, dry_run: bool, streams_lost: bool, history: bool, limit: int, as_json: bool) -> None:
        """Send jobs again that no message stands for; clean up what has no job or no row.

        Workers do so by themselves, and write down what they found for 30 days; a pass that found nothing at
        most once an hour. --limit and --json are of --history.
        """
        if history:
            _tell(newest_passes(container.database, limit), as_json=as_json)
        else:
            _reconcile(container, dry_run=dry_run, streams_lost=streams_lost)

    return reconcile


def _reconcile(container: Container, *, dry_run: bool, streams_lost: bool) -> None:
    finding = _send_again(container, dry_run=dry_run, streams_lost=streams_lost)
    swept = container.sweeps.run(dry_run=dry_run)
    plans = len(swept.collection_transforms) + len(swept.dataset_transforms)
    found = finding.counts() | swept.counts() | {"plans": plans}
    if any(found.values()) and not dry_run:
        container.audit.note("jobs.reconciled", details=found)
    for line in _report(finding, swept, "would " if dry_run else ""):
        click.echo(line)


def _send_again(container: Container, *, dry_run: bool, streams_lost: bool) -> Finding:
    """Passes until one finds less than it may; a dry run is one pass."""
    lost_at = container.database.now() if streams_lost else None
    total = Finding(0, 0, 0)
    while True:
        found = container.reconciler.run(dry_run=dry_run, streams_lost_at=lost_at)
        if found is None:
            sys.exit("another process is reconciling at this moment; try again")
        total += found
        if dry_run or found.total < BATCH:
            return total


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


def _tell(passes: Sequence[Pass], *, as_json: bool) -> None:
    if not passes and not as_json:
        click.echo("no pass was written down yet: is a worker of the collections pool running?")
    for each in passes:
        show(each, as_json, _line)


def _line(one: Pass) -> str:
    took = (
        "unfinished"
        if one.finished_at is None
        else f"{(one.finished_at - one.started_at).total_seconds():.1f} s"
    )
    found = ", ".join(f"{cause} {number}{_named(one, cause)}" for cause, number in one.counts.items())
    return f"{one.started_at.isoformat(timespec='seconds')} ({took}): {found or 'nothing'}"


def _named(one: Pass, cause: str) -> str:
    ids = one.job_ids.get(cause)
    return f" ({' '.join(ids)})" if ids else ""
