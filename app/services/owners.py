"""Owners: makes sure that whoever asks has a row for their things to belong to."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy.dialects.postgresql import insert

from app.security.principal import Principal
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Owner


@dataclass(frozen=True, slots=True)
class Owners:
    """Verbs on owners."""

    database: Database
    _known: set[Principal] = field(default_factory=set)

    def ensure(self, principal: Principal) -> None:
        """Write the owner's row unless this process has done so; raises UnavailableError."""
        if principal in self._known:
            return
        statement = insert(Owner).values(owner_id=principal.owner_id, display_name=principal.display_name)
        with self.database.transaction() as session:
            session.execute(
                statement.on_conflict_do_update(
                    index_elements=["owner_id"], set_={"display_name": principal.display_name}
                )
            )
        self._known.add(principal)
