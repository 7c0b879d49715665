"""Which jobs: the filters of the panel, of the API and of `flask jobs`, and who may see which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, func, true

from app.errors import InvalidInputError
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import POOLS
from app.security.principal import Principal, Role
from app.storage.postgres.tables import Job

JobState = Literal["pending", "running", "retrying", "succeeded", "dead", "cancelled"]
ScopeKind = Literal[
    "collection_transform", "dataset_transform", "embedded_dataset", "visualization_transform"
]
STATES: tuple[str, ...] = get_args(JobState)
SCOPE_KINDS: tuple[str, ...] = get_args(ScopeKind)
QUEUES = tuple(pool.queue for pool in POOLS.values())
OLDEST_SECONDS = 1e9

_EXACT = ("state", "kind", "queue", "owner_id", "error_code", "worker", "scope_kind", "scope_id")
_CLOSED = {"state": STATES, "kind": tuple(CONTRACTS), "queue": QUEUES, "scope_kind": SCOPE_KINDS}


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; None means any. Ages are in seconds since a job was recorded.

    `scope_id` is the id of the transform or embedded dataset that `scope_kind` names.
    """

    job_id: str | None = None
    state: str | None = None
    kind: str | None = None
    queue: str | None = None
    owner_id: str | None = None
    error_code: str | None = None
    worker: str | None = None
    scope_kind: str | None = None
    scope_id: int | None = None
    younger_than: float | None = None
    older_than: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for SQL; raises InvalidInputError for a value that no job can have."""
        self._check()
        return list(self._conditions())

    def _check(self) -> None:
        for name, words in _CLOSED.items():
            value = getattr(self, name)
            if value is not None and value not in words:
                raise InvalidInputError(f"{name} must be one of {', '.join(words)}", field=name)
        if self.scope_id is not None and self.scope_kind is None:
            raise InvalidInputError("scope_id needs scope_kind: ids of what?", field="scope_kind")
        for name in ("younger_than", "older_than"):
            age = getattr(self, name)
            if age is not None and not 0 <= age <= OLDEST_SECONDS:
                raise InvalidInputError(f"{name} must lie between 0 and {OLDEST_SECONDS:.0f}", field=name)

    def _conditions(self) -> Iterator[ColumnElement[bool]]:
        for name in _EXACT:
            if (value := getattr(self, name)) is not None:
                yield getattr(Job, name) == value
        if self.job_id is not None:
            yield Job.job_id == _uuid(self.job_id)
        if self.younger_than is not None:
            yield Job.created_at > func.now() - timedelta(seconds=self.younger_than)
        if self.older_than is not None:
            yield Job.created_at < func.now() - timedelta(seconds=self.older_than)


def sees_all(principal: Principal) -> bool:
    """Whether somebody may see and act on what others own."""
    return principal.role.covers(Role.ADMIN)


def visible_to(principal: Principal) -> ColumnElement[bool]:
    """Which jobs a principal may see: an admin all, those of the installation among them; else one's own."""
    return true() if sees_all(principal) else Job.owner_id == principal.owner_id


def _uuid(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise InvalidInputError("job_id must be a UUID", field="job_id") from None
