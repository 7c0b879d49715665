"""/api/dead-letters: messages that were given up, and what is done with them."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.guard import takes_bytes, takes_files
from app.api.openapi import answers
from app.api.replies import attachment, nothing, reply
from app.api.schemas.base import WITH_CONFLICT
from app.api.schemas.dead_letters import (
    DeadLetterList,
    DeadLetterPath,
    DeadLetterReply,
    DeadLettersQuery,
    DestinationList,
    EditBody,
    EditedReply,
    ImportReply,
    LetterDetailReply,
    LetterExportQuery,
    LetterGroupsQuery,
    LetterGroupsReply,
    LetterImportForm,
    LetterImportQuery,
    ReplayBody,
    RerouteBody,
    WhyBody,
)
from app.security.marks import least_role
from app.security.principal import Role
from app.services.letter_export import export

NDJSON = "application/x-ndjson"
_IMPORT_BYTES = 64 * 1024 * 1024
_ONE = "/<int:dead_letter_id>"

api = APIBlueprint(
    "dead_letters",
    __name__,
    url_prefix="/api/dead-letters",
    abp_tags=[Tag(name="Dead letters")],
    abp_responses=WITH_CONFLICT,
)


@api.get("", responses={200: DeadLetterList})
def list_dead_letters(query: DeadLettersQuery) -> Response:
    """List letters of one's own jobs, or all for an admin, the last to die first."""
    page = services().dead_letters.list(
        me(), query.filter(), limit=query.limit, token=query.continuation_token
    )
    return reply(DeadLetterList(page))


@api.get("/groups", responses={200: LetterGroupsReply})
def list_dead_letter_groups(query: LetterGroupsQuery) -> Response:
    """List causes, the last to strike first, with how many letters have them."""
    window = {"limit": query.limit, "offset": query.offset}
    groups = services().dead_letters.groups(me(), **window, only_open=query.only_open)
    return reply(LetterGroupsReply(groups))


@api.get("/export", responses=answers(NDJSON))
def export_dead_letters(query: LetterExportQuery) -> Response:
    """Download letters as lines of JSON, secrets masked."""
    lines = export(services().dead_letters, me(), query.filter(), payloads=query.payloads)
    first = next(lines, "")  # refuses here what is wrong, before the answer begins
    response = Response(_after(first, lines), mimetype=NDJSON)
    response.headers["Content-Disposition"] = attachment("dead-letters.ndjson")
    return response


@api.post("/import", responses={200: ImportReply})
@takes_files
@takes_bytes(_IMPORT_BYTES)
@least_role(Role.ADMIN)
def import_dead_letters(query: LetterImportQuery, form: LetterImportForm) -> Response:
    """Bring letters back from an export with payloads (multipart field `file`; admins).

    Safe to repeat: what is here, or was replayed, is passed over and named with the reason.
    """
    lines = form.file.stream
    return reply(ImportReply(services().letter_import.run(me(), lines, dry_run=query.dry_run)))


def _after(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


@api.get(_ONE, responses={200: LetterDetailReply})
def get_dead_letter(path: DeadLetterPath) -> Response:
    """Read one letter with its payload, secrets masked, its attempts and its line of replays."""
    return reply(LetterDetailReply(services().dead_letters.get(me(), path.dead_letter_id)))


@api.post(f"{_ONE}/reveal", responses={200: LetterDetailReply})
def reveal_dead_letter(path: DeadLetterPath) -> Response:
    """Read one letter with the secrets in it, which only admins may and which is recorded."""
    return reply(LetterDetailReply(services().dead_letters.get(me(), path.dead_letter_id, reveal=True)))


@api.post(f"{_ONE}/replay", responses={200: DeadLetterReply})
def replay_dead_letter(path: DeadLetterPath, body: ReplayBody) -> Response:
    """Send the message again, now or at a moment; 409 with the reason where that would start nothing."""
    key = path.dead_letter_id
    if body.at is not None:
        return reply(DeadLetterReply(services().letter_moves.delay(me(), key, body.at, why=body.why)))
    return reply(DeadLetterReply(services().letter_acts.replay(me(), key, why=body.why)))


@api.get(f"{_ONE}/destinations", responses={200: DestinationList})
def list_dead_letter_destinations(path: DeadLetterPath) -> Response:
    """List the kinds of job that can take the letter's work."""
    found = services().letter_moves.destinations(me(), path.dead_letter_id)
    return reply(DestinationList(items=list(found)))


@api.post(f"{_ONE}/reroute", responses={200: DeadLetterReply})
def reroute_dead_letter(path: DeadLetterPath, body: RerouteBody) -> Response:
    """Let another kind of job, or the letter's own at its right queue, do the work."""
    moves = services().letter_moves
    return reply(DeadLetterReply(moves.reroute(me(), path.dead_letter_id, body.to, at=body.at, why=body.why)))


@api.post(f"{_ONE}/read", responses={204: None})
def mark_dead_letter_read(path: DeadLetterPath) -> Response:
    """Note that somebody has seen the letter, so that nobody is warned before it expires."""
    services().dead_letters.mark_read(me(), path.dead_letter_id)
    return nothing()


@api.post(f"{_ONE}/edit", responses={200: EditedReply})
def edit_dead_letter(path: DeadLetterPath, body: EditBody) -> Response:
    """Start a new job with other arguments, linked to the letter; a dry run shows the difference."""
    acts, key = services().letter_acts, path.dead_letter_id
    if body.dry_run:
        return reply(EditedReply(acts.check_edit(me(), key, body.arguments)))
    return reply(EditedReply(acts.edit_and_replay(me(), key, body.arguments, why=body.why)))


@api.post(f"{_ONE}/discard", responses={200: DeadLetterReply})
def discard_dead_letter(path: DeadLetterPath, body: WhyBody) -> Response:
    """Put a letter aside, with a reason; it can be undone until `undo_until`."""
    return reply(DeadLetterReply(services().letter_acts.discard(me(), path.dead_letter_id, why=body.why)))


@api.post(f"{_ONE}/undo", responses={200: DeadLetterReply})
def undo_dead_letter(path: DeadLetterPath) -> Response:
    """Take a discard back; 409 once it is too late."""
    return reply(DeadLetterReply(services().letter_acts.undo(me(), path.dead_letter_id)))
