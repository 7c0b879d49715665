"""`flask dlq`: what the panel and the API do with dead letters, for a shell. Everything speaks JSON, too."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import IO, Any

import click

from app.commands import dlq_bulk
from app.commands.dlq_output import AS_JSON, OFFSET, as_filter, filter_options, letter_line, show
from app.commands.moments import AT, IN, moment_of
from app.commands.operator import OPERATOR, as_operator
from app.container import Container
from app.services.dead_letters import LetterDetail, LetterGroup
from app.services.letter_export import export as export_lines
from app.services.letter_import import ImportReport

_WATCHED = 100  # letters of one look
_KEY = click.argument("dead_letter_id", type=int)
_WHY = click.option("--why", default="", help="For the record.")
_CURVE = " ▁▂▃▄▅▆▇█"


def group(container: Container) -> click.Group:
    """The commands; every one has --help."""

    @click.group("dlq")
    def dlq() -> None:
        """Dead letters: messages that were given up."""

    for command in (
        _index,
        _list,
        _groups,
        _show,
        _replay,
        _reroute,
        _edit,
        _discard,
        _undo,
        _export,
        _import,
        _watch,
    ):
        dlq.add_command(command(container))
    dlq.add_command(dlq_bulk.group(container))
    return dlq


def _index(container: Container) -> click.Command:
    @click.command("index")
    @AS_JSON
    @as_operator
    def index(*, as_json: bool) -> None:
        """Write a row for every letter of the stream that has none; safe to repeat, at any time."""
        begun, seen, added = time.monotonic(), 0, 0
        for seen, added in container.letter_index.rebuild():
            if not as_json:
                click.echo(f"{seen} letters read, {added} added", err=True)
        seconds = time.monotonic() - begun
        container.audit.note("dead_letter.indexed", details={"seen": seen, "added": added})
        told = {"seen": seen, "added": added, "seconds": round(seconds, 1)}
        show(told, as_json, lambda _: f"{seen} letters read, {added} rows added in {seconds:.1f} s")

    return index


def _list(container: Container) -> click.Command:
    @click.command("list")
    @filter_options
    @click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
    @click.option("--after", "token", help="The token that the page before ended with.")
    @AS_JSON
    @as_operator
    def list_letters(*, limit: int, token: str | None, as_json: bool, **wanted: Any) -> None:
        """Letters, the last to die first."""
        page = container.services.dead_letters.list(OPERATOR, as_filter(wanted), limit=limit, token=token)
        if as_json:
            show(page, as_json, str)
            return
        for letter in page.items:
            click.echo(letter_line(letter))
        if page.continuation_token:
            click.echo(f"more: --after {page.continuation_token}", err=True)

    return list_letters


def _groups(container: Container) -> click.Command:
    @click.command("groups")
    @click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
    @OFFSET
    @click.option("--all", "everything", is_flag=True, help="Also causes whose letters are all dealt with.")
    @AS_JSON
    @as_operator
    def groups(*, limit: int, offset: int, everything: bool, as_json: bool) -> None:
        """Causes, the last to strike first, with how many open letters have them and when they died."""
        letters, only_open = container.services.dead_letters, not everything
        found = letters.groups(OPERATOR, limit=limit, offset=offset, only_open=only_open)
        if as_json:
            show(found, as_json, str)
            return
        for each in found.items:
            click.echo(_group_line(each))
        click.echo(f"{found.open_count} open, {found.expiring_unread} of them unread and about to expire")
        if (shown := offset + len(found.items)) < found.total_count:
            click.echo(f"more: --offset {shown}, of {found.total_count} causes", err=True)

    return groups


def _group_line(group: LetterGroup) -> str:
    most = max(group.curve) or 1
    curve = "".join(_CURVE[-(-died * (len(_CURVE) - 1) // most)] for died in group.curve)
    last = group.last_seen_at.isoformat(timespec="seconds")
    return f"{group.fingerprint} {group.open_count:>7} {curve} {last} {group.actor or '-'}: {group.cause}"


def _show(container: Container) -> click.Command:
    @click.command("show")
    @_KEY
    @click.option("--reveal", is_flag=True, help="With the secrets in it, which is recorded.")
    @AS_JSON
    @as_operator
    def show_letter(*, dead_letter_id: int, reveal: bool, as_json: bool) -> None:
        """One letter with its payload, trace, attempts and line of replays."""
        letters = container.services.dead_letters
        detail = letters.get(OPERATOR, dead_letter_id, reveal=reveal)
        letters.mark_read(OPERATOR, dead_letter_id)
        show(detail, as_json, _detail_text)

    return show_letter


def _detail_text(detail: LetterDetail) -> str:
    letter, content = detail.letter, detail.content
    lines = [
        letter_line(letter),
        f"job {letter.job_id or 'unknown'}: {detail.job_state or 'gone'}",
        f"arguments: {json.dumps(letter.arguments)}",
        f"line of replays: {' > '.join(str(each.dead_letter_id) for each in detail.lineage)}",
    ]
    if letter.ended_by or letter.ended_why:
        lines.append(f"{letter.state} by {letter.ended_by}: {letter.ended_why or ''}")
    if content is None:
        return "\n".join([*lines, f"no payload: {detail.content_gone}"])
    payload = content.payload_hex or json.dumps(content.payload, indent=2, ensure_ascii=False)
    if content.payload_hex is None and content.content_type != "application/json":
        payload = "no message that can be read; --reveal shows its first bytes"
    attempts = [f"attempt: {json.dumps(attempt)}" for attempt in content.attempts]
    return "\n".join([*lines, *attempts, f"payload ({content.size_bytes} bytes):", payload, content.trace])


def _replay(container: Container) -> click.Command:
    @click.command("replay")
    @click.argument("dead_letter_ids", type=int, nargs=-1, required=True)
    @AT
    @IN
    @_WHY
    @AS_JSON
    @as_operator
    def replay(
        *,
        dead_letter_ids: tuple[int, ...],
        at: datetime | None,
        after: timedelta | None,
        why: str,
        as_json: bool,
    ) -> None:
        """Send the messages of letters again, each once; now, or at a moment."""
        moment = moment_of(at, after)
        for key in dead_letter_ids:
            if moment is None:
                done = container.services.letter_acts.replay(OPERATOR, key, why=why)
            else:
                done = container.services.letter_moves.delay(OPERATOR, key, moment, why=why)
            show(done, as_json, lambda one: f"{one.dead_letter_id}: replayed as {one.successor_message_id}")

    return replay


def _reroute(container: Container) -> click.Command:
    @click.command("reroute")
    @_KEY
    @click.option("--to", help="A kind of job that takes the letter's work; without it they are listed.")
    @AT
    @IN
    @_WHY
    @AS_JSON
    @as_operator
    def reroute(
        *,
        dead_letter_id: int,
        to: str | None,
        at: datetime | None,
        after: timedelta | None,
        why: str,
        as_json: bool,
    ) -> None:
        """Let another kind of job, or its own at the right queue, do the letter's work."""
        moves = container.services.letter_moves
        if to is None:
            for found in moves.destinations(OPERATOR, dead_letter_id):
                show(found, as_json, lambda one: f"{one.kind} of {one.queue}")
            return
        done = moves.reroute(OPERATOR, dead_letter_id, to, at=moment_of(at, after), why=why)
        show(done, as_json, lambda one: f"{one.dead_letter_id}: job {one.successor_job_id} does the work")

    return reroute


def _edit(container: Container) -> click.Command:
    @click.command("edit")
    @_KEY
    @click.option("--set", "edits", multiple=True, required=True, metavar="NAME=JSON", help="A new value.")
    @click.option("--dry-run", is_flag=True, help="Only show the difference.")
    @_WHY
    @AS_JSON
    @as_operator
    def edit(*, dead_letter_id: int, edits: tuple[str, ...], dry_run: bool, why: str, as_json: bool) -> None:
        """Start a new job with other arguments in place of a dead one."""
        acts = container.services.letter_acts
        letter = container.services.dead_letters.list_one(OPERATOR, dead_letter_id)
        arguments = {**(letter.arguments or {}), **dict(map(_assignment, edits))}
        done = (
            acts.check_edit(OPERATOR, dead_letter_id, arguments)
            if dry_run
            else acts.edit_and_replay(OPERATOR, dead_letter_id, arguments, why=why)
        )
        lines = [f"{one.path}: {json.dumps(one.before)} > {json.dumps(one.after)}" for one in done.changes]
        ending = "nothing was done" if dry_run else f"replayed as job {done.job_id}"
        show(done, as_json, lambda _: "\n".join([*lines, ending]))

    return edit


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} must read NAME=JSON", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _discard(container: Container) -> click.Command:
    @click.command("discard")
    @click.argument("dead_letter_ids", type=int, nargs=-1, required=True)
    @click.option("--why", required=True, help="For the record.")
    @AS_JSON
    @as_operator
    def discard(*, dead_letter_ids: tuple[int, ...], why: str, as_json: bool) -> None:
        """Put letters aside for good; for a while that can be undone."""
        for key in dead_letter_ids:
            done = container.services.letter_acts.discard(OPERATOR, key, why=why)
            show(done, as_json, lambda one: f"{one.dead_letter_id}: discarded; undo until {one.undo_until}")

    return discard


def _undo(container: Container) -> click.Command:
    @click.command("undo")
    @click.argument("dead_letter_ids", type=int, nargs=-1, required=True)
    @AS_JSON
    @as_operator
    def undo(*, dead_letter_ids: tuple[int, ...], as_json: bool) -> None:
        """Take discards back."""
        for key in dead_letter_ids:
            done = container.services.letter_acts.undo(OPERATOR, key)
            show(done, as_json, lambda one: f"{one.dead_letter_id}: {one.state} again")

    return undo


def _export(container: Container) -> click.Command:
    @click.command("export")
    @filter_options
    @click.option("--payloads", is_flag=True, help="With what the letters hold, secrets masked.")
    @click.option("--json", is_flag=True, expose_value=False, help="As it is anyway.")
    @as_operator
    def export(*, payloads: bool, **wanted: Any) -> None:
        """All letters that match, one a line as JSON."""
        letters = container.services.dead_letters
        for line in export_lines(letters, OPERATOR, as_filter(wanted), payloads=payloads):
            click.echo(line, nl=False)

    return export


def _import(container: Container) -> click.Command:
    @click.command("import")
    @click.argument("file", type=click.File("rb"))
    @click.option("--dry-run", is_flag=True, help="Only say what would come back.")
    @AS_JSON
    @as_operator
    def import_letters(*, file: IO[bytes], dry_run: bool, as_json: bool) -> None:
        """Bring letters back from an export with --payloads; - reads standard input. Safe to repeat."""
        done = container.services.letter_import.run(OPERATOR, file, dry_run=dry_run)
        show(done, as_json, _import_text)

    return import_letters


def _import_text(done: ImportReport) -> str:
    lines = [f"line {one.line}: {one.why}" for one in done.reasons]
    return "\n".join([f"{done.imported} letters came back, {done.passed_over} did not", *lines])


def _watch(container: Container) -> click.Command:
    @click.command("watch")
    @filter_options
    @click.option("--every", default=2.0, show_default=True, help="Seconds between two looks.")
    @click.option("--times", default=0, help="Look so often; 0: until interrupted (Ctrl-C).")
    @AS_JSON
    @as_operator
    def watch(*, every: float, times: int, as_json: bool, **wanted: Any) -> None:
        """The newest letters, and then each as it comes."""
        letters, which = container.services.dead_letters, as_filter(wanted)
        fresh = tuple(reversed(letters.list(OPERATOR, which, limit=_WATCHED).items))
        last = 0
        with suppress(KeyboardInterrupt):  # as everybody ends a watch
            for number in range(times or sys.maxsize):
                if number:
                    time.sleep(0 if len(fresh) == _WATCHED else every)
                    fresh = letters.after(OPERATOR, last, which, limit=_WATCHED)
                for letter in fresh:
                    show(letter, as_json, letter_line)
                last = max([last, *(each.dead_letter_id for each in fresh)])

    return watch
