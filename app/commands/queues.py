"""`flask queues`: what the panel's page of queues shows and does, for a shell. It speaks JSON, too."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.api.schemas.queues import QueueEntry, QueueList, WorkerEntry
from app.commands.dlq_output import AS_JSON, show
from app.commands.moments import Moment, Span, moment_of
from app.commands.operator import OPERATOR, as_operator
from app.container import Container
from app.errors import NotFoundError
from app.services.queues import LONGEST_PAUSE, Configured
from brokers.jetstream.recurring import Recurring

_QUEUE = click.argument("queue")


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("queues")
    def queues() -> None:
        """Queues, the workers at them, pauses, schedules, drift."""

    for command in (_list, _show, _pause, _resume, _schedules, _drift):
        queues.add_command(command(container))
    return queues


def _list(container: Container) -> click.Command:
    @click.command("list")
    @AS_JSON
    @as_operator
    def list_queues(*, as_json: bool) -> None:
        """Depth, age and rates of every queue."""
        for entry in _board(container).queues:
            show(entry.model_dump(mode="json"), as_json, functools.partial(_as_line, entry))

    return list_queues


def _show(container: Container) -> click.Command:
    @click.command("show")
    @_QUEUE
    @AS_JSON
    @as_operator
    def show_queue(*, queue: str, as_json: bool) -> None:
        """One queue with its workers and what they run."""
        board = _board(container)
        found = [entry for entry in board.queues if entry.queue == queue]
        if not found:
            names = ", ".join(entry.queue for entry in board.queues)
            raise NotFoundError(f"no queue {queue!r}; there are {names}")
        workers = [worker for worker in board.workers if worker.queue == queue]
        told = QueueList(queues=found, workers=workers).model_dump(mode="json")
        lines = [_queue_line(found[0]), *(f"  {_worker_line(worker)}" for worker in workers)]
        show(told, as_json, lambda _: "\n".join(lines))

    return show_queue


def _pause(container: Container) -> click.Command:
    @click.command("pause")
    @_QUEUE
    @click.option("--until", type=Moment(), help="Until this time (ISO; UTC if it names no zone).")
    @click.option("--for", "span", type=Span(), help="For so long: 90s, 15m, 2h, 1d.")
    @click.option("--reason", required=True, help="Shown to whoever asks why nothing runs.")
    @AS_JSON
    @as_operator
    def pause(
        *, queue: str, until: datetime | None, span: timedelta | None, reason: str, as_json: bool
    ) -> None:
        """Hand out nothing of a queue until a moment; what runs goes on, what comes is kept."""
        moment = moment_of(until, span, "--until and --for")
        if moment is None:
            days = LONGEST_PAUSE.days
            raise click.UsageError(f"say how long: --until or --for, at most {days} days")
        container.services.queues.pause(OPERATOR, queue, moment, reason)
        at = moment.astimezone(UTC).isoformat(timespec="seconds")
        show({"queue": queue, "paused_until": at}, as_json, lambda _: f"{queue} is paused until {at}")

    return pause


def _resume(container: Container) -> click.Command:
    @click.command("resume")
    @_QUEUE
    @AS_JSON
    @as_operator
    def resume(*, queue: str, as_json: bool) -> None:
        """End a pause now; no error where there is none."""
        container.services.queues.resume(OPERATOR, queue)
        show({"queue": queue, "paused_until": None}, as_json, lambda _: f"{queue} goes on")

    return resume


def _schedules(container: Container) -> click.Command:
    @click.command("schedules")
    @AS_JSON
    @as_operator
    def schedules(*, as_json: bool) -> None:
        """What the server sends by the clock."""
        found = container.services.queues.schedules()
        for one in found:
            show(one, as_json, _schedule_line)
        if not found and not as_json:
            click.echo("nothing is sent by the clock")

    return schedules


def _drift(container: Container) -> click.Command:
    @click.command("drift")
    @click.option("--all", "everything", is_flag=True, help="Also what is as it should be.")
    @AS_JSON
    @as_operator
    def drift(*, everything: bool, as_json: bool) -> None:
        """Streams and consumers that are not as intended; `flask streams apply` makes them so.

        Ends with status 1 where something differs.
        """
        found = container.services.queues.configuration()
        drifted = [one for one in found if one.drifts]
        for one in found if everything else drifted:
            show(one, as_json, _configured_lines)
        if not drifted and not as_json:
            click.echo("the server has what it is meant to have")
        if drifted:
            raise SystemExit(1)

    return drift


def _board(container: Container) -> QueueList:
    return QueueList.of(container.services.queues.board(OPERATOR))


def _as_line(entry: QueueEntry, _told: dict[str, Any]) -> str:
    return _queue_line(entry)


def _queue_line(entry: QueueEntry) -> str:
    waiting = (
        f"{entry.waiting} waiting ({entry.held} held), {entry.running} running, {entry.retrying} retrying"
    )
    words = [
        f"{entry.queue}: {waiting}, {entry.dead_letters} dead letters, {entry.workers} workers",
        f"a minute: {entry.in_per_minute:g} in, {entry.out_per_minute:g} out, {entry.died_per_minute:g} died",
    ]
    if entry.oldest_waiting_at:
        words.append(f"oldest since {entry.oldest_waiting_at.isoformat(timespec='seconds')}")
    if entry.paused_until:
        until = entry.paused_until.isoformat(timespec="seconds")
        words.append(f"PAUSED until {until}: {entry.pause_reason or 'from elsewhere'}")
    return "; ".join(words)


def _worker_line(worker: WorkerEntry) -> str:
    holds = "no answer" if worker.holds is None else f"holds {worker.holds}"
    runs = [f"{run.kind} {run.job_id}" for run in worker.runs]
    return f"{worker.name} {worker.version or '-'}: {holds}; runs {', '.join(runs) or 'nothing'}"


def _schedule_line(one: Recurring) -> str:
    zone = f" {one.time_zone}" if one.time_zone else ""
    return f"{one.queue} {one.name}: {one.actor or 'a message that cannot be read'} {one.when}{zone}"


def _configured_lines(one: Configured) -> str:
    state = "missing" if one.missing else "drift" if one.drifts else "as intended"
    lines = [f"{one.kind} {one.name}: {state}"]
    differing = (setting for setting in one.settings if setting.differs)
    lines += [f"  {each.field}: {each.found!r}, should be {each.wanted!r}" for each in differing]
    return "\n".join(lines)
