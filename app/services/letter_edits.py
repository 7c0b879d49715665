"""Edited arguments of a job: held to the contract of its kind, and what they name must be the owner's."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError
from app.jobs.contracts import (
    CONTRACTS,
    BuildVisualization,
    Contract,
    EmbedItems,
    ExtractFile,
    PlanCollectionTransform,
    PlanDatasetTransform,
)
from app.storage.postgres.tables import (
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    File,
    Item,
    Job,
    Visualization,
    VisualizationTransform,
)

# Whose row an argument names.
_NAMED: Mapping[str, Any] = {
    "collection_transform_id": CollectionTransform,
    "file_id": File,
    "dataset_transform_id": DatasetTransform,
    "embedded_dataset_id": EmbeddedDataset,
    "item_ids": Item,
    "visualization_id": Visualization,
    "visualization_transform_id": VisualizationTransform,
}
# Others clean up what they name: with other names they would delete what is in use.
EDITABLE = frozenset(
    kind.kind
    for kind in (PlanCollectionTransform, ExtractFile, PlanDatasetTransform, EmbedItems, BuildVisualization)
)
_MISSING = "(missing)"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where, and the JSON before and after."""

    path: str
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """The arguments that differ, by name."""
    names = sorted({*before, *after})
    pairs = ((name, before.get(name, _MISSING), after.get(name, _MISSING)) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs if old != new)


def edited_contract(session: Session, job: Job, arguments: Mapping[str, Any]) -> Contract:
    """The contract of the job's kind with these arguments.

    Raises InvalidInputError that names the argument and the rule, ConflictError for a kind that nobody edits.
    """
    kind = CONTRACTS.get(job.kind)
    if kind is None:
        raise ConflictError(f"there is no contract of kind {job.kind!r}: was it made by a newer release?")
    if kind.kind not in EDITABLE:
        raise ConflictError(f"jobs of kind {job.kind} clean up what they name: they are replayed as they are")
    plain = dict(_checked(kind, arguments))
    _check_owner(session, job.owner_id, plain)
    return kind(**plain)


def contract_for(session: Session, job: Job, kind: str) -> Contract:
    """The contract of another kind that takes what it asks for from the job's arguments; raises as above."""
    wanted = {field.name: job.arguments[field.name] for field in fields(CONTRACTS[kind])}
    plain = dict(_checked(CONTRACTS[kind], wanted))
    _check_owner(session, job.owner_id, plain)
    return CONTRACTS[kind](**plain)


def _checked(kind: type[Contract], arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for name in arguments:
        if name not in names:
            raise InvalidInputError(f"{kind.kind} takes {', '.join(names)}, not {name}", field=name)
    for name in names:
        if name not in arguments:
            raise InvalidInputError(f"{kind.kind} needs {name}", field=name)
        yield name, _typed(name, hints[name], arguments[name])


def _typed(name: str, hint: Any, value: Any) -> Any:
    if isinstance(hint, types.GenericAlias) and get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list) or not value:
            raise InvalidInputError(f"{name} must be a list that is not empty", field=name)
        return tuple(_typed(name, inner, each) for each in value)
    if not isinstance(value, hint) or isinstance(value, bool):
        raise InvalidInputError(f"{name} must be of type {hint.__name__}", field=name)
    return value


def _check_owner(session: Session, owner_id: str | None, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        table = _NAMED.get(name)
        if table is None:
            continue
        ids = set(value) if isinstance(value, tuple) else {value}
        key = inspect(table).primary_key[0]
        mine = select(func.count()).where(key.in_(ids), table.owner_id == owner_id)
        if session.scalar(mine) != len(ids):
            raise InvalidInputError(f"{name} names what the job's owner does not have", field=name)
