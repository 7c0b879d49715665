"""One verb on many things; each stands or falls alone, as if it had been asked for by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import ExplorerError, InvalidInputError
from app.security.principal import Principal

MOST_AT_ONCE = 200
Verb = Callable[[Principal, int], Any]


@dataclass(frozen=True, slots=True)
class BulkFailure:
    """One that was refused, and why."""

    id: int
    error: str
    code: str


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of each, in the order asked for."""

    completed: tuple[int, ...]
    failed: tuple[BulkFailure, ...]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Verbs on many things, by the name of their kind."""

    deletes: Mapping[str, Verb]
    triggers: Mapping[str, Verb]

    def delete(self, principal: Principal, kind: str, ids: Sequence[int]) -> BulkOutcome:
        """Delete each; raises InvalidInputError for a kind that there is not, or too many."""
        return _each(self.deletes, principal, kind, ids)

    def trigger(self, principal: Principal, kind: str, ids: Sequence[int]) -> BulkOutcome:
        """Start each transform; raises as `delete`."""
        return _each(self.triggers, principal, kind, ids)


def _each(verbs: Mapping[str, Verb], principal: Principal, kind: str, ids: Sequence[int]) -> BulkOutcome:
    if kind not in verbs:
        raise InvalidInputError(f"kind must be one of {', '.join(verbs)}", field="kind")
    if not 1 <= len(ids) <= MOST_AT_ONCE:
        raise InvalidInputError(f"ids must name 1 to {MOST_AT_ONCE}", field="ids")
    completed: list[int] = []
    failed: list[BulkFailure] = []
    for key in dict.fromkeys(ids):
        try:
            verbs[kind](principal, key)
            completed.append(key)
        except ExplorerError as error:
            failed.append(BulkFailure(key, error.message, error.code))
    return BulkOutcome(tuple(completed), tuple(failed))
