"""Writing the audit log in the transaction of what it records, by watching sessions, so that none forgets.

A session that commits a change of an audited table (`AUDITED`) commits its events, too, or neither. What is
no change of a row (an operator's command) is recorded by `record`. Events hold names of fields and on-off
values, never texts: they outlive what they are about, and must hold nothing that somebody may want deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

from sqlalchemy import Result, Row, Table, event, func, insert, inspect, select, update
from sqlalchemy.orm import InstanceState, ORMExecuteState, Session, sessionmaker

from app.errors import UnavailableError
from app.observability.logging import bound_fields
from app.security.audit import Event, Sealer, origin
from app.security.keyring import Keyring
from app.storage.postgres.session import after_commit
from app.storage.postgres.tables import (
    ApiToken,
    AuditEvent,
    AuditHead,
    ChatSession,
    Collection,
    CollectionTransform,
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    EmbedderRow,
    File,
    Item,
    LlmRow,
    SessionRow,
    User,
    Visualization,
    VisualizationTransform,
)

logger = logging.getLogger(__name__)

SUCCESS, FAILURE = "success", "failure"
HEAD_UNVERIFIED = "audit.head_unverified"
_ALL = frozenset({"created", "changed", "deleted"})
_CAME_AND_WENT = frozenset({"created", "deleted"})  # what changes says only when it was last used
_DELETED = frozenset({"deleted"})  # of what the pipeline makes by the thousand
_PENDING, _NOTED = "audit_pending", "audit_noted"
_MAC_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Audited:
    """What the log calls the rows of a table, and what of their life it records."""

    noun: str
    verbs: frozenset[str] = _ALL


AUDITED: Mapping[type, Audited] = {
    ApiToken: Audited("api_token", _CAME_AND_WENT),
    ChatSession: Audited("chat_session", _CAME_AND_WENT),
    Collection: Audited("collection"),
    CollectionTransform: Audited("collection_transform"),
    Dataset: Audited("dataset"),
    DatasetTransform: Audited("dataset_transform"),
    EmbeddedDataset: Audited("embedded_dataset", _DELETED),
    EmbedderRow: Audited("embedder"),
    File: Audited("file", _DELETED),
    Item: Audited("item", _DELETED),
    LlmRow: Audited("llm"),
    SessionRow: Audited("session", _CAME_AND_WENT),
    User: Audited("user"),
    Visualization: Audited("visualization", _DELETED),
    VisualizationTransform: Audited("visualization_transform"),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no number yet.

    `details` holds strings, whole numbers, on-off values, and lists of them. Postgres may give other numbers
    back in another spelling, which would look like a forgery.
    """

    action: str
    object_kind: str | None = None
    object_id: str | None = None
    owner_id: str | None = None
    outcome: str = SUCCESS
    details: Mapping[str, Any] = field(default_factory=dict)


class AuditTrail:
    """Appends events with the active key of a ring; one per process."""

    def __init__(self, keyring: Keyring) -> None:
        self.sealer = Sealer(keyring)

    def listen(self, sessions: sessionmaker[Session]) -> None:
        """Watch every session that is made here."""
        event.listen(sessions, "before_flush", _note_rows)
        event.listen(sessions, "do_orm_execute", _note_statement)
        event.listen(sessions, "before_commit", self._append_pending)

    def record(self, session: Session, action: str, **more: Any) -> None:
        """Record what no row shows, in the caller's transaction; `more` are fields of a Draft."""
        _pending(session).append(Draft(action, **more))

    def _append_pending(self, session: Session) -> None:
        if session.in_nested_transaction():  # a savepoint is no commit
            return
        session.flush()  # so that rows have their ids, and the last of them are noted
        drafts = [*_drafts(session.info.pop(_NOTED, {})), *session.info.pop(_PENDING, ())]
        if drafts:
            self._append(session, drafts)

    def _append(self, session: Session, drafts: Sequence[Draft]) -> None:
        """The last lock of every transaction: held until its commit, which follows at once."""
        head = session.execute(_HEAD).one_or_none()
        if head is None:
            raise UnavailableError(
                "audit_head has no row: the audit log was tampered with; see docs/audit.md"
            )
        if not self._is_ours(head):
            drafts = [_unverified(head), *drafts]
        mac, rows = head.mac, []
        for number, draft in enumerate(drafts, start=head.last_id + 1):
            entry = _event(draft, number, head.now)
            previous, mac = mac, self.sealer.seal(entry, mac)
            rows.append(
                {**_columns(entry), "key_id": self.sealer.key_id, "previous_mac": previous, "mac": mac}
            )
        session.execute(insert(_EVENTS), rows)
        last_id = head.last_id + len(rows)
        session.execute(
            update(_HEADS).values(
                last_id=last_id, mac=mac, key_id=self.sealer.key_id, seal=self.sealer.seal_head(last_id, mac)
            )
        )
        after_commit(session, partial(_tell, rows))

    def _is_ours(self, head: Row[Any]) -> bool:
        """Whether we, or others with our keys, wrote the head: else whoever cut the chain would go unseen."""
        unsealed = head.key_id is None and self.sealer.key_id is not None and head.last_id > 0
        return not unsealed and self.sealer.head_holds(head.last_id, head.mac, head.key_id, head.seal)


_EVENTS = cast("Table", AuditEvent.__table__)
_HEADS = cast("Table", AuditHead.__table__)
_HEAD = select(_HEADS, func.clock_timestamp().label("now")).with_for_update()


def _unverified(head: Row[Any]) -> Draft:
    logger.error("the head of the audit log was not written with a key of ours; run `flask audit verify`")
    return Draft(HEAD_UNVERIFIED, outcome=FAILURE, details={"last_id": head.last_id, "key_id": head.key_id})


def _event(draft: Draft, number: int, at: Any) -> Event:
    source = origin()
    job_id = bound_fields().get("job_id")
    return Event(
        id=number,
        at=at,
        owner_id=draft.owner_id,
        actor=source.actor,
        action=draft.action,
        object_kind=draft.object_kind,
        object_id=draft.object_id,
        outcome=draft.outcome,
        request_id=source.request_id or (str(job_id) if job_id else None),
        address=source.address,
        details=draft.details,
    )


def _columns(entry: Event) -> dict[str, Any]:
    return {**asdict(entry), "details": dict(entry.details)}


def _tell(rows: Sequence[Mapping[str, Any]]) -> None:
    """The log collected elsewhere is the anchor that nobody who owns the database can rewrite."""
    shown = ("owner_id", "actor", "object_kind", "object_id", "outcome", "address")
    for row in rows:
        code = {"event": row["action"], "audit_id": row["id"], "audit_mac": row["mac"].hex()[:_MAC_SHOWN]}
        fields = {name: row[name] for name in shown if row[name] is not None}
        logger.info("audit: %s", row["action"], extra=code | fields)


def _pending(session: Session) -> list[Draft]:
    found: list[Draft] = session.info.setdefault(_PENDING, [])
    return found


@dataclass(slots=True)
class _Note:
    row: Any  # held here: a session forgets what it has written
    fields: set[str] = field(default_factory=set)


# What happens to rows in one transaction, by row and verb.
_Notes = dict[tuple[InstanceState[Any], str], _Note]


def _note_rows(session: Session, _context: Any, _instances: Any) -> None:
    notes: _Notes = session.info.setdefault(_NOTED, {})
    for rows, verb in ((session.new, "created"), (session.dirty, "changed"), (session.deleted, "deleted")):
        for row in rows:
            kind = AUDITED.get(type(row))
            if kind is not None and verb in kind.verbs:
                _note(notes, row, verb, kind)


def _note(notes: _Notes, row: Any, verb: str, kind: Audited) -> None:
    state: InstanceState[Any] = inspect(row)
    changed = set() if verb == "deleted" else _changed(state)
    # Where changes are not recorded, as of what comes and goes with every sign-in, secrets are not either.
    secret = _secret_fields(state.mapper.class_) if "changed" in kind.verbs else frozenset()
    for name in sorted(changed & secret):
        changed.discard(name)
        if did := _secret_verb(state, name):
            notes.setdefault((state, did), _Note(row)).fields.add(name)
    # What is made and completed in one transaction is made, not changed.
    if verb != "changed" or (changed and (state, "created") not in notes):
        notes.setdefault((state, verb), _Note(row)).fields.update(changed)


def _changed(state: InstanceState[Any]) -> set[str]:
    columns = state.mapper.column_attrs.keys()
    return {name for name in columns if state.attrs[name].history.has_changes()}


def _secret_fields(table: type) -> frozenset[str]:
    columns: Any = inspect(table).column_attrs
    return frozenset(one.key for one in columns if "secret" in one.columns[0].info)


def _secret_verb(state: InstanceState[Any], name: str) -> str | None:
    before = any(state.attrs[name].history.deleted or ())
    if not state.attrs[name].value:
        return "secret.removed" if before else None
    return "secret.changed" if before else "secret.set"


def _drafts(notes: _Notes) -> Iterator[Draft]:
    for (state, verb), note in notes.items():
        noun = AUDITED[state.mapper.class_].noun
        is_secret = "." in verb
        yield Draft(
            verb if is_secret else f"{noun}.{verb}",
            object_kind=noun,
            object_id=str(state.mapper.primary_key_from_instance(note.row)[0]),
            owner_id=note.row.owner_id,
            details={} if is_secret else _details(note.row, verb, note.fields),
        )


def _details(row: Any, verb: str, names: set[str]) -> dict[str, Any]:
    switches = {name: value for name in sorted(names) if isinstance(value := getattr(row, name), bool)}
    return {"fields": sorted(names), **switches} if verb == "changed" else switches


def _note_statement(state: ORMExecuteState) -> Any:
    """A statement over many rows of an audited table: recorded with their number, without their ids."""
    verb = (
        "changed"
        if state.is_update
        else "deleted"
        if state.is_delete
        else "created"
        if state.is_insert
        else None
    )
    mapper = state.bind_mapper if verb and state.is_orm_statement else None
    kind = AUDITED.get(mapper.class_) if mapper else None
    if kind is None or verb not in kind.verbs:
        return None
    result = state.invoke_statement()
    number = _number_of_rows(state, result)
    if number != 0:
        details = {"count": number}
        draft = Draft(f"{kind.noun}.{verb}", kind.noun, owner_id=origin().owner_id, details=details)
        _pending(state.session).append(draft)
    return result


def _number_of_rows(state: ORMExecuteState, result: Result[Any]) -> int | None:
    """None where the rows come back one by one and nobody has counted them yet."""
    if isinstance(state.parameters, list):
        return len(state.parameters)
    number = getattr(result, "rowcount", -1)
    return number if number >= 0 else None
