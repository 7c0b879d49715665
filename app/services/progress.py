"""How far the files of a collection are, counted from rows."""

from __future__ import annotations

from dataclasses import dataclass

from app.security.principal import Principal
from app.storage.postgres.queries.file_states import STATES, state_counts
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Collection, File


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Files by state; `stored` ones are read by no transform."""

    stored: int
    pending: int
    processing: int
    succeeded: int
    failed: int

    @property
    def total(self) -> int:
        """All files."""
        return self.stored + self.pending + self.processing + self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class Progress:
    """Verbs on progress."""

    database: Database

    def files(self, principal: Principal, collection_id: int) -> FileCounts:
        """The files of one collection by state; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, Collection, collection_id, principal.owner_id)
            rows = session.execute(state_counts(File.collection_id == collection_id)).tuples()
            counts = {STATES[rank]: number for rank, number in rows}
        return FileCounts(**{state: counts.get(state, 0) for state in STATES})
