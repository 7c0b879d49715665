"""`flask dlq bulk`: replay or discard everything that matches, as a job that any worker carries out."""

from __future__ import annotations

from typing import Any

import click

from app.commands.dlq_output import AS_JSON, OFFSET, as_filter, filter_options, show
from app.commands.operator import OPERATOR, as_operator
from app.container import Container
from app.services.letter_bulks import Act, BulkOrder, BulkPreview, BulkView

_KEY = click.argument("bulk_id", type=int)


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("bulk")
    def bulk() -> None:
        """Many letters at once."""

    bulk.add_command(_prepare(container, "replay"))
    bulk.add_command(_prepare(container, "discard"))
    bulk.add_command(_list(container))
    bulk.add_command(_show(container))
    for verb in ("start", "pause", "resume", "cancel"):
        bulk.add_command(_steer(container, verb))
    bulk.add_command(_undo(container))
    return bulk


def _prepare(container: Container, act: Act) -> click.Command:
    @click.command(act, help=f"Freeze the list of open letters that match, to {act} them; --start begins.")
    @filter_options
    @click.option("--why", required=True, help="For the record.")
    @click.option("--per-second", default=50.0, show_default=True, help="Replays per second, 0.1 to 500.")
    @click.option("--canary", default=0, show_default=True, help="Pause after so many; 0: do not.")
    @click.option("--stop-on-failure-share", type=float, help="Stop when more fail or die again, 0 to 1.")
    @click.option("--start", is_flag=True, help="Begin at once.")
    @AS_JSON
    @as_operator
    def prepare(
        *,
        why: str,
        per_second: float,
        canary: int,
        stop_on_failure_share: float | None,
        start: bool,
        as_json: bool,
        **wanted: Any,
    ) -> None:
        bulks = container.services.letter_bulks
        order = BulkOrder(act, why, per_second, canary, stop_on_failure_share)
        preview = bulks.prepare(OPERATOR, as_filter(wanted), order)
        if start:
            bulks.start(OPERATOR, preview.bulk.bulk_id)
            preview = bulks.preview(OPERATOR, preview.bulk.bulk_id)
        show(preview, as_json, _preview_text)

    return prepare


def _list(container: Container) -> click.Command:
    @click.command("list")
    @click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
    @OFFSET
    @AS_JSON
    @as_operator
    def list_bulks(*, limit: int, offset: int, as_json: bool) -> None:
        """Bulk jobs, the newest first."""
        for bulk in container.services.letter_bulks.list(OPERATOR, limit=limit, offset=offset).items:
            show(bulk, as_json, _line)

    return list_bulks


def _show(container: Container) -> click.Command:
    @click.command("show")
    @_KEY
    @AS_JSON
    @as_operator
    def show_bulk(*, bulk_id: int, as_json: bool) -> None:
        """How far a bulk job is, how its letters fare, and which of them made trouble."""
        bulks = container.services.letter_bulks
        show(bulks.preview(OPERATOR, bulk_id), as_json, _preview_text)
        for problem in bulks.problems(OPERATOR, bulk_id):
            show(problem, as_json, lambda one: f"  {one.dead_letter_id} {one.state}: {one.detail}")

    return show_bulk


def _steer(container: Container, verb: str) -> click.Command:
    @click.command(verb, help=f"{verb.capitalize()} a bulk job.")
    @_KEY
    @AS_JSON
    @as_operator
    def steer(*, bulk_id: int, as_json: bool) -> None:
        act = getattr(container.services.letter_bulks, verb)
        show(act(OPERATOR, bulk_id), as_json, _line)

    return steer


def _undo(container: Container) -> click.Command:
    @click.command("undo")
    @_KEY
    @AS_JSON
    @as_operator
    def undo(*, bulk_id: int, as_json: bool) -> None:
        """Take back what an ended bulk discard discarded, as far as that is still possible."""
        done = container.services.letter_bulks.undo(OPERATOR, bulk_id)
        more = "; more can be: repeat it" if done.more else ""
        show(done, as_json, lambda one: f"bulk {bulk_id}: {one.restored} letters are open again{more}")

    return undo


def _preview_text(preview: BulkPreview) -> str:
    causes = [f"  {part.count:>7} {part.fingerprint}: {part.cause}" for part in preview.causes]
    return "\n".join([_line(preview.bulk), *_fare(preview), *causes])


def _fare(preview: BulkPreview) -> list[str]:
    lines = [f"  waits for bulk {preview.waits_for}"] if preview.waits_for else []
    if (fare := preview.successors) is not None and preview.bulk.done:
        ways = f"{fare.succeeded} succeeded, {fare.died_again} died again, {fare.waiting} wait or run"
        lines.append(f"  of those sent again {ways}, {fare.unknown} unknown")
    return lines


def _line(bulk: BulkView) -> str:
    counts = f"{bulk.done} done, {bulk.skipped} skipped, {bulk.failed} failed of {bulk.total}"
    return f"bulk {bulk.bulk_id} {bulk.act} {bulk.state}: {counts}" + (f"; {bulk.note}" if bulk.note else "")
